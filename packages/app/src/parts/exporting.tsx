/** Files for other programs: choose a format, get what was made. */
import { useSignal } from "@preact/signals";
import type { ExportedFile } from "../api";
import { bytes } from "../format";
import { attempt } from "../state";
import { words } from "../strings";
import { Popover } from "./parts";

const text = words.exporting;

function Formats(props: { formats: readonly string[]; run: (format: string) => Promise<ExportedFile[]> }) {
  const { formats, run } = props;
  const busy = useSignal<string | null>(null);
  const made = useSignal<ExportedFile[]>([]);
  const start = async (format: string) => {
    busy.value = format;
    made.value = (await attempt(run(format))) ?? [];
    busy.value = null;
  };
  return (
    <div class="formats">
      <p class="soft small">{text.hint}</p>
      <div class="grid">
        {formats.map((format) => (
          <button key={format} class="item" disabled={busy.value !== null} onClick={() => void start(format)}>
            {words.formats[format] ?? format}
          </button>
        ))}
      </div>
      <div role="status">
        {busy.value !== null && <p class="soft">{text.busy(words.formats[busy.value] ?? busy.value)}</p>}
        {made.value.map((file) => (
          <a key={file.url} class="download" href={file.url} download={file.name}>
            <span class="name">{file.name}</span> <span class="soft num">{bytes(file.size)}</span>
          </a>
        ))}
      </div>
    </div>
  );
}

export function ExportMenu(props: { formats: readonly string[]; run: (format: string) => Promise<ExportedFile[]> }) {
  if (!props.formats.length) return null;
  return (
    <Popover label={text.title} right>
      {() => <Formats {...props} />}
    </Popover>
  );
}
