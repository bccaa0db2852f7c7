/** Which signals the timelines show. */
import type { Column, ColumnGroup } from "../api";
import { words } from "../strings";
import { Popover } from "../parts/parts";
import { type Session, shownColumns } from "./session";

const text = words.watch;
const GROUPS: ColumnGroup[] = ["affect", "expression", "action unit", "quality", "pose"];

function toggle(names: readonly string[], on: boolean) {
  const rest = shownColumns.value.filter((name) => !names.includes(name));
  shownColumns.value = on ? [...rest, ...names] : rest;
}

function Group({ group, columns }: { group: ColumnGroup; columns: Column[] }) {
  const shown = new Set(shownColumns.value);
  const all = columns.every((column) => shown.has(column.name));
  return (
    <fieldset>
      <legend>
        {words.groups[group]}
        <button class="link" onClick={() => toggle(columns.map((column) => column.name), !all)}>
          {all ? text.none : text.all}
        </button>
      </legend>
      {columns.map((column) => (
        <label key={column.name} class="check" title={column.description}>
          <input
            type="checkbox"
            checked={shown.has(column.name)}
            onChange={(event) => toggle([column.name], event.currentTarget.checked)}
          />
          {column.title}
        </label>
      ))}
    </fieldset>
  );
}

export function SignalMenu({ session }: { session: Session }) {
  const columns = session.detail.value.columns;
  const groups = GROUPS.map((group) => ({ group, columns: columns.filter((column) => column.group === group) }));
  return (
    <Popover label={text.signals} name={text.signalsName}>
      {() => (
        <div class="signals">
          {groups.filter((one) => one.columns.length).map((one) => <Group key={one.group} {...one} />)}
        </div>
      )}
    </Popover>
  );
}
