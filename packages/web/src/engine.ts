/** What runs the networks: ONNX Runtime Web, on WebAssembly with SIMD or on WebGPU. */

import type { Env, InferenceSession, TensorConstructor } from "onnxruntime-web";

import { MienError } from "./errors.js";

/** Where a network runs. */
export type Device = "wasm" | "webgpu";

/** How networks are run. */
export interface EngineOptions {
  /** `auto` takes WebGPU where it is there, agrees and is faster, and WebAssembly elsewhere. */
  readonly device: Device | "auto";
  /** Folder of ONNX Runtime's files; undefined leaves it to find them beside its own script. */
  readonly runtime: URL | undefined;
  /** Threads of WebAssembly; more than 1 need a page that is cross-origin isolated. */
  readonly threads: number;
}

/** A network that is ready to run. */
export interface Engine {
  readonly device: Device;
  /** Runs it on one batch; outputs by name. */
  run(input: Float32Array, shape: readonly number[]): Promise<Record<string, Float32Array>>;
  close(): Promise<void>;
}

/** The parts of ONNX Runtime that are used here. */
interface Runtime {
  readonly env: Env;
  readonly InferenceSession: typeof InferenceSession;
  readonly Tensor: TensorConstructor;
}

/** Runs whose times are compared; the first one compiles. */
const TRIALS = 4;

/**
 * Opens a network.
 *
 * @param network - An ONNX file.
 * @param probe - Shape of an input with which devices are compared.
 * @param tolerance - How far the devices' outputs may differ.
 * @param options - How networks are run.
 * @throws MienError - The device that was named cannot run it.
 */
export async function openEngine(
  network: Uint8Array,
  probe: readonly number[],
  tolerance: number,
  options: EngineOptions,
): Promise<Engine> {
  if (options.device !== "auto") return open(network, options.device, options);
  const wasm = await open(network, "wasm", options);
  if (!(await hasGraphics())) return wasm;
  const webgpu = await open(network, "webgpu", options).catch(() => null);
  if (!webgpu) return wasm;
  const better = await isBetter(webgpu, wasm, probe, tolerance).catch(() => false);
  await (better ? wasm : webgpu).close();
  return better ? webgpu : wasm;
}

/** Whether there is a graphics processor, not a program that stands for one. */
async function hasGraphics(): Promise<boolean> {
  const gpu = (globalThis.navigator as { gpu?: GraphicsAccess } | undefined)?.gpu;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter!.info?.isFallbackAdapter;
}

interface GraphicsAccess {
  requestAdapter(): Promise<{ readonly info?: { readonly isFallbackAdapter?: boolean } } | null>;
}

async function isBetter(
  engine: Engine,
  reference: Engine,
  shape: readonly number[],
  tolerance: number,
): Promise<boolean> {
  const length = shape.reduce((product, side) => product * side, 1);
  const input = Float32Array.from({ length }, (_, i) => (i * 37) % 256);
  const ours = await engine.run(input, shape);
  const theirs = await reference.run(input, shape);
  for (const [name, numbers] of Object.entries(theirs)) {
    if (!numbers.every((number, i) => Math.abs(number - ours[name]![i]!) <= tolerance))
      return false;
  }
  return (await timeOf(engine, input, shape)) < (await timeOf(reference, input, shape));
}

async function timeOf(engine: Engine, input: Float32Array, shape: readonly number[]) {
  let least = Infinity;
  for (let trial = 0; trial < TRIALS; trial++) {
    const began = performance.now();
    await engine.run(input, shape);
    least = Math.min(least, performance.now() - began);
  }
  return least;
}

async function open(network: Uint8Array, device: Device, options: EngineOptions): Promise<Engine> {
  try {
    const runtime = await runtimeFor(device, options);
    const session = await runtime.InferenceSession.create(network, {
      executionProviders: [device],
      // Errors alone: its warnings on where nodes run are none that a user can act on.
      logSeverityLevel: 3,
    });
    return new SessionEngine(session, runtime.Tensor, device);
  } catch (error) {
    throw new MienError(
      `ONNX Runtime cannot run the network on ${device} (${(error as Error).message}); ` +
        (device === "webgpu" ? "use the device wasm" : "see that its .wasm files are served"),
    );
  }
}

async function runtimeFor(device: Device, { runtime, threads }: EngineOptions): Promise<Runtime> {
  const module: Runtime =
    device === "webgpu"
      ? await import("onnxruntime-web/webgpu")
      : await import("onnxruntime-web/wasm");
  module.env.wasm.numThreads = threads;
  if (runtime) module.env.wasm.wasmPaths = runtime.href;
  return module;
}

class SessionEngine implements Engine {
  readonly #session: InferenceSession;
  readonly #Tensor: TensorConstructor;

  constructor(
    session: InferenceSession,
    Tensor: TensorConstructor,
    readonly device: Device,
  ) {
    this.#session = session;
    this.#Tensor = Tensor;
  }

  async run(input: Float32Array, shape: readonly number[]) {
    const tensor = new this.#Tensor("float32", input, shape);
    const outputs = await this.#session.run({ [this.#session.inputNames[0]!]: tensor });
    const numbers: Record<string, Float32Array> = {};
    for (const name of this.#session.outputNames) {
      numbers[name] = (await outputs[name]!.getData()) as Float32Array;
    }
    return numbers;
  }

  async close(): Promise<void> {
    await this.#session.release();
  }
}
