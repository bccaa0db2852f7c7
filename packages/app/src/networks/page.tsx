/** Networks: which there are, what is at hand, and their cards. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Network, api } from "../api";
import { bytes } from "../format";
import { LOADING, type Loaded, load, say } from "../state";
import { words } from "../strings";
import { Await, Dialog, Empty } from "../parts/parts";
import { Markdown, inline } from "./markdown";

const text = words.networks;

function Pull({ name }: { name: string }) {
  const command = `mien bundles pull ${name}`;
  const copy = () => navigator.clipboard.writeText(command).then(() => say(text.copied), () => undefined);
  return (
    <p class="pull small">
      <span class="soft">{text.pull}</span> <code>{command}</code>{" "}
      <button class="link" onClick={() => void copy()}>{text.copy}</button>
    </p>
  );
}

function Tile({ network, onCard }: { network: Network; onCard: () => void }) {
  return (
    <li class="card network">
      <header>
        <h3>{network.name}</h3>
        {network.version !== null && <span class="soft small num">{text.numbered(network.version)}</span>}
      </header>
      {network.title !== network.name && <p>{network.title}</p>}
      <p>{inline(network.summary)}</p>
      <dl class="facts">
        {network.tasks.length > 0 && <div><dt>{text.tasks}</dt><dd>{network.tasks.join(", ")}</dd></div>}
        {network.size_bytes !== null && <div><dt>{text.size}</dt><dd class="num">{bytes(network.size_bytes)}</dd></div>}
        {network.terms && <div><dt>{text.terms}</dt><dd>{network.terms}</dd></div>}
      </dl>
      {network.limits.length > 0 && (
        <details>
          <summary>{text.limits}</summary>
          <ul>{network.limits.map((limit) => <li key={limit}>{inline(limit)}</li>)}</ul>
        </details>
      )}
      {!network.at_hand && <Pull name={network.name} />}
      {network.card && <button onClick={onCard} aria-label={text.showCard(network.name)}>{text.card}</button>}
    </li>
  );
}

const GROUPS: { title: string; holds: (network: Network) => boolean }[] = [
  { title: text.inUse, holds: (network) => network.in_use },
  { title: text.atHand, holds: (network) => network.at_hand && !network.in_use },
  { title: text.notAtHand, holds: (network) => !network.at_hand && !network.in_use },
];

function Group({ title, all, onCard }: { title: string; all: Network[]; onCard: (network: Network) => void }) {
  if (!all.length) return null;
  return (
    <section>
      <h2>{title}</h2>
      <ul class="tiles">
        {all.map((network) => <Tile key={network.name} network={network} onCard={() => onCard(network)} />)}
      </ul>
    </section>
  );
}

export function NetworksPage() {
  const networks = useSignal<Loaded<Network[]>>(LOADING);
  const shown = useSignal<Network | null>(null);
  const reload = async () => {
    networks.value = await load(api.networks());
  };
  useEffect(() => void reload(), []);
  return (
    <main class="page">
      <h1>{words.pages.networks}</h1>
      <p class="lead">{text.lead}</p>
      <Await data={networks.value} retry={() => void reload()}>
        {(all) =>
          all.length === 0 ? (
            <Empty title={text.empty} />
          ) : (
            GROUPS.map(({ title, holds }) => (
              <Group key={title} title={title} all={all.filter(holds)} onCard={(network) => (shown.value = network)} />
            ))
          )
        }
      </Await>
      {shown.value && (
        <Dialog title={text.showCard(shown.value.name)} onClose={() => (shown.value = null)} wide>
          <Markdown source={shown.value.card} />
        </Dialog>
      )}
    </main>
  );
}
