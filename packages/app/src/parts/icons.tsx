/** Small drawings on buttons. All are hidden from screen readers: buttons have names of their own. */
import type { ComponentChildren } from "preact";

function Icon({ children, filled }: { children: ComponentChildren; filled?: boolean }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 16 16"
      width="16"
      height="16"
      aria-hidden="true"
      fill={filled ? "currentColor" : "none"}
      stroke={filled ? "none" : "currentColor"}
      stroke-width="1.5"
      stroke-linecap="round"
      stroke-linejoin="round"
    >
      {children}
    </svg>
  );
}

export const Play = () => <Icon filled><path d="M4 2.5v11l9-5.5z" /></Icon>;
export const Pause = () => <Icon filled><path d="M4 3h3v10H4zM9 3h3v10H9z" /></Icon>;
export const StepBack = () => <Icon><path d="M10.5 3.5 6 8l4.5 4.5M4 3.5v9" /></Icon>;
export const StepOn = () => <Icon><path d="M5.5 3.5 10 8l-4.5 4.5M12 3.5v9" /></Icon>;
export const Undo = () => <Icon><path d="M5.5 3 2.5 6l3 3M3 6h6.5a4 4 0 0 1 0 8H7" /></Icon>;
export const Redo = () => <Icon><path d="m10.5 3 3 3-3 3M13 6H6.5a4 4 0 0 0 0 8H9" /></Icon>;
export const Close = () => <Icon><path d="m4 4 8 8M12 4l-8 8" /></Icon>;
export const Down = () => <Icon><path d="m4 6 4 4 4-4" /></Icon>;
export const Right = () => <Icon><path d="m6 4 4 4-4 4" /></Icon>;
export const Plus = () => <Icon><path d="M8 3v10M3 8h10" /></Icon>;
export const Minus = () => <Icon><path d="M3 8h10" /></Icon>;
export const Whole = () => <Icon><path d="M2 4v8M14 4v8M4.5 8h7M6 6 4 8l2 2M10 6l2 2-2 2" /></Icon>;
export const Folder = () => <Icon><path d="M2 12.5v-9h4l1.5 2H14v7z" /></Icon>;
export const Film = () => <Icon><path d="M2 3h12v10H2zM5 3v10M11 3v10M2 6.3h3M2 9.7h3M11 6.3h3M11 9.7h3" /></Icon>;
export const Photo = () => <Icon><path d="M2 3h12v10H2zM2.5 11.5 6 8l3 3 2-2 2.5 2.5M10.5 6h.01" /></Icon>;
export const Paper = () => <Icon><path d="M4 2h5l3 3v9H4zM9 2v3h3" /></Icon>;
export const Sun = () => <Icon><circle cx="8" cy="8" r="2.7" /><path d="M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1" /></Icon>;
export const Moon = () => <Icon><path d="M13 9.8A5.6 5.6 0 0 1 6.2 3a5.5 5.5 0 1 0 6.8 6.8z" /></Icon>;
export const Half = () => <Icon><circle cx="8" cy="8" r="5.5" /><path d="M8 2.5v11" /><path d="M8 2.5a5.5 5.5 0 0 1 0 11z" fill="currentColor" /></Icon>;
export const Drop = () => <Icon><path d="M8 2v8M5 7l3 3 3-3M2.5 11v2.5h11V11" /></Icon>;
export const Bin = () => <Icon><path d="M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5 5 13.5h6l.5-9" /></Icon>;
