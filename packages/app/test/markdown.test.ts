import assert from "node:assert/strict";
import { test } from "node:test";
import { blocksOf } from "../src/networks/markdown";

test("cards fall into headings, text, lists, tables and code", () => {
  const source = "# Title\n\nOne line\nand more.\n\n- a\n- b\n  goes on\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n```sh\n# no heading\n```\n";
  const blocks = blocksOf(source);
  assert.deepEqual(blocks.map((block) => block.kind), ["heading", "text", "list", "table", "code"]);
  assert.deepEqual(blocks[1]?.lines, ["One line", "and more."]);
  assert.deepEqual(blocks[2]?.lines, ["- a", "- b goes on"]);
  assert.deepEqual(blocks[4]?.lines, ["# no heading"]);
});
