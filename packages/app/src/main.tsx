import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/parts.css";
import "./style/pages.css";
import "./style/watch.css";
import { App } from "./shell";
import { follow } from "./state";

const root = document.getElementById("app");
if (root) {
  follow();
  render(<App />, root);
}
