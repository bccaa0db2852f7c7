/** What several pages are made of. */
import type { ComponentChildren, TargetedEvent } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Loaded, dismiss, toasts } from "../state";
import { words } from "../strings";
import { Close, Down } from "./icons";

/** Nothing here yet, or something went wrong: what it is, and what to do next. */
export function Empty({ title, children, tone }: { title: string; children?: ComponentChildren; tone?: "problem" }) {
  return (
    <div class={`empty ${tone ?? ""}`} role={tone === "problem" ? "alert" : undefined}>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** What was loaded, or that it is on its way, or why it did not come and a way to try again. */
export function Await<T>(props: {
  data: Loaded<T>;
  retry?: () => void;
  children: (value: T) => ComponentChildren;
}) {
  const { data, retry, children } = props;
  if (data.state === "there") return <>{children(data.value)}</>;
  if (data.state === "loading") return <p class="loading soft" role="status">{words.loading}</p>;
  return (
    <Empty title={words.failed} tone="problem">
      <p>{data.problem.message}</p>
      {retry && <button onClick={retry}>{words.tryAgain}</button>}
    </Empty>
  );
}

export function Progress({ share, label }: { share: number | null; label: string }) {
  const value = share === null ? undefined : Math.round(share * 100);
  return (
    <div
      class={`progress ${share === null ? "unknown" : ""}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={value}
    >
      <div style={{ width: `${value ?? 30}%` }} />
    </div>
  );
}

/** A window over the page; the browser keeps the focus in it, and Escape closes it. */
export function Dialog(props: { title: string; onClose: () => void; wide?: boolean; children: ComponentChildren }) {
  const { title, onClose, wide, children } = props;
  const ref = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    ref.current?.showModal();
    ref.current?.querySelector<HTMLElement>("[data-focus]")?.focus();
    return () => before instanceof HTMLElement && before.focus();
  }, []);
  return (
    <dialog
      ref={ref}
      class={wide ? "wide" : ""}
      aria-labelledby={heading}
      onClose={onClose}
      onMouseDown={(event) => event.target === ref.current && onClose()}
    >
      <div class="sheet">
        <header>
          <h2 id={heading}>{title}</h2>
          <button class="bare" aria-label={words.close} title={words.close} onClick={onClose}>
            <Close />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

/** A question that has to be answered before something cannot be undone. */
export function Confirm(props: { title: string; text: string; action: string; onYes: () => void; onClose: () => void }) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <p>{props.text}</p>
      <div class="answers">
        <button onClick={props.onClose}>{words.cancel}</button>
        <button
          class="danger"
          data-focus
          onClick={() => {
            props.onClose();
            props.onYes();
          }}
        >
          {props.action}
        </button>
      </div>
    </Dialog>
  );
}

/** What a component holds of an element: null before it is there. */
type Held = { readonly current: HTMLElement | null };

function useOutside(ref: Held, open: boolean, close: () => void) {
  useEffect(() => {
    if (!open) return undefined;
    const onDown = (event: Event) => !ref.current?.contains(event.target as Node) && close();
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      close();
      ref.current?.querySelector("button")?.focus();
    };
    document.addEventListener("pointerdown", onDown);
    document.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("pointerdown", onDown);
      document.removeEventListener("keydown", onKey);
    };
  }, [open]);
}

/** A button that opens a small panel beneath itself. */
export function Popover(props: {
  label: ComponentChildren;
  name?: string;
  class?: string;
  right?: boolean;
  children: (close: () => void) => ComponentChildren;
}) {
  const [open, setOpen] = useState(false);
  const ref = useRef<HTMLDivElement>(null);
  useOutside(ref, open, () => setOpen(false));
  return (
    <div class="popover" ref={ref}>
      <button
        class={props.class ?? ""}
        aria-expanded={open}
        aria-label={props.name}
        title={props.name}
        onClick={() => setOpen(!open)}
      >
        {props.label}
        <Down />
      </button>
      {open && <div class={`pop ${props.right ? "right" : ""}`}>{props.children(() => setOpen(false))}</div>}
    </div>
  );
}

export function Toasts() {
  return (
    <div class="toasts" role="log" aria-live="polite">
      {toasts.value.map((toast) => (
        <div key={toast.key} class={`toast ${toast.kind}`}>
          <span>{toast.text}</span>
          <button class="bare" aria-label={words.dismiss} onClick={() => dismiss(toast.key)}>
            <Close />
          </button>
        </div>
      ))}
    </div>
  );
}

export function Field({ label, children, hint }: { label: string; children: ComponentChildren; hint?: string }) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
      {hint && <small class="soft">{hint}</small>}
    </label>
  );
}

/** One of a few choices, side by side. */
export function Segmented<T extends string>(props: {
  label: string;
  value: T;
  choices: readonly { value: T; text: string; count?: number }[];
  onChange: (value: T) => void;
}) {
  return (
    <div class="segmented" role="group" aria-label={props.label}>
      {props.choices.map((choice) => (
        <button
          key={choice.value}
          aria-pressed={choice.value === props.value}
          onClick={() => props.onChange(choice.value)}
        >
          {choice.text}
          {choice.count !== undefined && <span class="badge">{choice.count}</span>}
        </button>
      ))}
    </div>
  );
}

/** The width and height of an element, kept up to date. */
export function useSize(ref: Held): { width: number; height: number } {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    const measure = () => {
      const { clientWidth: width, clientHeight: height } = element;
      setSize((old) => (old.width === width && old.height === height ? old : { width, height }));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return size;
}

/** The value of a text field, or of a choice, of an event. */
export function valueOf(event: TargetedEvent<HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement>): string {
  return event.currentTarget.value;
}
