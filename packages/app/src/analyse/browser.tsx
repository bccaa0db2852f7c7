/** Choose films, photos and folders that are on this computer already, without a copy of them. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Entry, type EntryKind, type Listing, api } from "../api";
import { bytes, fileName } from "../format";
import { LOADING, type Loaded, load } from "../state";
import { words } from "../strings";
import { Film, Folder, Paper, Photo } from "../parts/icons";
import { Await, Dialog } from "../parts/parts";
import { stagePath } from "./staged";

const text = words.browser;
const ICONS: Record<EntryKind, typeof Film> = { folder: Folder, film: Film, photo: Photo, other: Paper };

function Row(props: { entry: Entry; chosen: boolean; onOpen: () => void; onToggle: () => void }) {
  const { entry, chosen, onOpen, onToggle } = props;
  const Icon = ICONS[entry.kind];
  return (
    <li>
      <label class={entry.kind === "other" ? "soft" : ""}>
        <input
          type="checkbox"
          checked={chosen}
          disabled={entry.kind === "other"}
          onChange={onToggle}
          aria-label={text.choose(entry.name)}
        />
        <Icon />
        {entry.kind !== "folder" && <span class="name">{entry.name}</span>}
      </label>
      {entry.kind === "folder" && <button class="link name" onClick={onOpen}>{entry.name}</button>}
      <span class="soft num">{entry.kind === "folder" || entry.size === null ? "" : bytes(entry.size)}</span>
    </li>
  );
}

export function Browser({ onClose }: { onClose: () => void }) {
  const listing = useSignal<Loaded<Listing>>(LOADING);
  const chosen = useSignal<Map<string, Entry>>(new Map());
  const open = async (path: string | null) => {
    listing.value = await load(api.files(path));
  };
  useEffect(() => void open(null), []);
  const toggle = (entry: Entry) => {
    const next = new Map(chosen.value);
    if (!next.delete(entry.path)) next.set(entry.path, entry);
    chosen.value = next;
  };
  const add = () => {
    for (const entry of chosen.value.values()) {
      stagePath(entry.path, entry.name, entry.size, entry.kind === "folder");
    }
    onClose();
  };
  const rows = (value: Listing) => (
    <>
      <div class="path">
        <button disabled={value.parent === null} onClick={() => void open(value.parent)}>{text.up}</button>
        <span class="soft" title={value.path}>{value.path}</span>
        <button
          onClick={() => {
            stagePath(value.path, fileName(value.path), null, true);
            onClose();
          }}
        >
          {text.wholeFolder}
        </button>
      </div>
      {value.entries.length === 0 && <p class="soft">{text.nothing}</p>}
      <ul class="files">
        {value.entries.map((entry) => (
          <Row
            key={entry.path}
            entry={entry}
            chosen={chosen.value.has(entry.path)}
            onOpen={() => void open(entry.path)}
            onToggle={() => toggle(entry)}
          />
        ))}
      </ul>
    </>
  );
  return (
    <Dialog title={text.title} onClose={onClose} wide>
      <Await data={listing.value} retry={() => void open(null)}>{rows}</Await>
      <div class="answers">
        <button onClick={onClose}>{words.cancel}</button>
        <button class="primary" disabled={!chosen.value.size} onClick={add}>{text.add(chosen.value.size)}</button>
      </div>
    </Dialog>
  );
}
