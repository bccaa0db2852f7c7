/** What the page says. */

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;

export const TEXT = {
  loading: "Loading the networks…",
  ready: (device: string) =>
    `Ready. Networks run on ${device.replace("webgpu", "WebGPU").replace("wasm", "WebAssembly")}.`,
  reading: (name: string, frames: number) => `Reading ${name}: ${frames} frames`,
  done: (name: string, frames: number, faces: number) =>
    `${name}: ${counted(frames, "frame")}, ${counted(faces, "face")}`,
  live: (rate: number, ms: number, left: number) =>
    `Camera: ${rate.toFixed(1)} frames/s, ${ms.toFixed(0)} ms per frame, ${left} frames left out`,
  more: (faces: number) => `${counted(faces, "face")} more in the picture and the table.`,
  noFace: "No face in this picture.",
  offline: "This page also works without a network.",
  unplugged: "The camera was unplugged or taken away; what was read so far is kept.",
  camera: {
    NotFoundError: "No camera is there; plug one in, or choose a photo or film.",
    NotAllowedError: "The browser may not use the camera; allow it in the address bar.",
    NotReadableError: "Another program uses the camera; close it and start again.",
  } as Readonly<Record<string, string>>,
  noCamera: (message: string) => `The camera does not start: ${message}`,
  unreadable: (name: string) => `${name} is no picture or film that this browser reads.`,
} as const;
