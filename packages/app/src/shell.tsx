/** What is around every page: the way between them, what is being read, light and dark, what has to be said. */
import { Component, type ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { percent } from "./format";
import { PAGES, type Page, connected, href, info, nextTheme, route, running, theme } from "./state";
import { words } from "./strings";
import { AnalysePage } from "./analyse/page";
import { shareOf } from "./analyse/queue";
import { LivePage } from "./live/page";
import { NetworksPage } from "./networks/page";
import { Half, Moon, Sun } from "./parts/icons";
import { Empty, Toasts } from "./parts/parts";
import { StudyPage } from "./study/page";
import { WatchPage } from "./watch/page";

const VIEWS: Record<Page, () => ComponentChildren> = {
  analyse: AnalysePage,
  watch: WatchPage,
  live: LivePage,
  study: StudyPage,
  networks: NetworksPage,
};

/** A fault in a page leaves the way to the others. */
class Guard extends Component<{ children: ComponentChildren }, { problem: Error | null }> {
  override state = { problem: null as Error | null };

  override componentDidCatch(problem: Error) {
    this.setState({ problem });
  }

  override render() {
    const { problem } = this.state;
    if (!problem) return this.props.children;
    return (
      <main class="page">
        <Empty title={words.broken} tone="problem">
          <p>{words.brokenHint}</p>
          <pre>{problem.message}</pre>
          <button onClick={() => location.reload()}>{words.reloadPage}</button>
        </Empty>
      </main>
    );
  }
}

function Reading() {
  const job = running.value;
  if (!job) return null;
  const share = shareOf(job);
  return (
    <a class="reading small num" href={href("analyse")}>
      <span class="pulse" aria-hidden="true" />
      {words.queueAt(job.name, share === null ? "" : percent(share))}
    </a>
  );
}

function ThemeButton() {
  const name = words.theme[theme.value];
  const Icon = { system: Half, light: Sun, dark: Moon }[theme.value];
  return (
    <button class="bare" title={name} aria-label={name} onClick={nextTheme}>
      <Icon />
    </button>
  );
}

function Header() {
  const { page } = route.value;
  const { value: known } = info;
  return (
    <header class="top">
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.querySelector<HTMLElement>("main")?.focus();
      }}>{words.skip}</a>
      <span class="mark" title={known.state === "there" ? words.version(known.value.version) : ""}>{words.program}</span>
      <nav aria-label={words.sections}>
        {PAGES.map((name) => (
          <a key={name} href={href(name)} aria-current={name === page ? "page" : undefined}>
            {words.pages[name]}
          </a>
        ))}
      </nav>
      <span class="grow" />
      <Reading />
      <ThemeButton />
    </header>
  );
}

export function App() {
  const { page } = route.value;
  const View = VIEWS[page];
  useEffect(() => {
    const main = document.querySelector("main");
    main?.setAttribute("tabindex", "-1");
    main?.setAttribute("id", "main");
  });
  return (
    <>
      <Header />
      {connected.value === false && <p class="away" role="alert">{words.away}</p>}
      <Guard key={page}><View /></Guard>
      <Toasts />
    </>
  );
}
