/**
 * The command line in tests: in this process, where what it prints is collected and standard input is given, or as the real
 * program, where signals, terminals and exit codes of a process count.
 */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, it } from "@effect/vitest"
import { Console, Effect, Layer, type Scope, Sink, Stdio, Stream } from "effect"
import { run as runProgram } from "../../src/cli/program.ts"
import * as Engine from "../../src/Engine.ts"
import type { Part } from "../../src/Part.ts"
import * as Worker from "../../src/Worker.ts"
import { fileUrl } from "../support/places.ts"
import { sharedUrl } from "../support/redis.ts"

export const shop = fileURLToPath(new URL("./shop.app.ts", import.meta.url))
const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

export interface Outcome {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface Surroundings {
  readonly stdin?: Stream.Stream<string> | undefined
  readonly isTerminal?: boolean | undefined
}

/** In this process; gives what a real one would print and exit with. */
export const run = (
  args: ReadonlyArray<string>,
  { isTerminal = false, stdin = Stream.empty }: Surroundings = {}
): Effect.Effect<Outcome> =>
  Effect.gen(function* () {
    let out = ""
    let err = ""
    const collect = (add: (text: string) => void) =>
      Sink.forEach((chunk: string | Uint8Array) =>
        Effect.sync(() => add(typeof chunk === "string" ? chunk : Buffer.from(chunk).toString()))
      )
    const stdio = Stdio.make({
      args: Effect.succeed(args),
      stdinIsTerminal: Effect.succeed(isTerminal),
      stdoutIsTerminal: Effect.succeed(isTerminal),
      stderrIsTerminal: Effect.succeed(isTerminal),
      stdin: Stream.encodeText(stdin),
      stdout: () =>
        collect((text) => {
          out += text
        }),
      stderr: () =>
        collect((text) => {
          err += text
        })
    })
    const print =
      (stream: "out" | "err") =>
      (...texts: ReadonlyArray<unknown>): void => {
        if (stream === "out") out += `${texts.join(" ")}\n`
        else err += `${texts.join(" ")}\n`
      }
    const captured: Console.Console = Object.assign(Object.create(globalThis.console), {
      log: print("out"),
      info: print("out"),
      error: print("err"),
      warn: print("err"),
      debug: print("out")
    })
    const code = yield* runProgram(args, "1.2.3").pipe(
      Effect.provide(Layer.mergeAll(NodeServices.layer, Layer.succeed(Stdio.Stdio, stdio))),
      Effect.provideService(Console.Console, captured)
    )
    return { code, out, err }
  })

/** As a process; it is ended by SIGTERM once it has printed something and what is to be done meanwhile is done. */
export const spawned = (
  args: ReadonlyArray<string>,
  options: {
    readonly env?: Record<string, string> | undefined
    readonly endAfter?: { readonly printed: string; readonly meanwhile: Effect.Effect<unknown, unknown> } | undefined
  } = {}
): Effect.Effect<Outcome> =>
  Effect.callback<Outcome>((resume) => {
    const child = spawn(process.execPath, [main, ...args], {
      env: { ...process.env, NO_COLOR: "1", ...options.env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const printed = { out: "", err: "" }
    let failure: unknown
    let isEnding = false
    const look = (stream: "out" | "err") => (data: Buffer) => {
      printed[stream] += data
      const { endAfter } = options
      if (isEnding || endAfter === undefined || !(printed.out + printed.err).includes(endAfter.printed)) return
      isEnding = true
      Effect.runPromise(endAfter.meanwhile)
        .catch((error) => {
          failure = error
        })
        .finally(() => child.kill("SIGTERM"))
    }
    child.stdout.on("data", look("out"))
    child.stderr.on("data", look("err"))
    child.once("close", (code) =>
      resume(failure === undefined ? Effect.succeed({ code: code ?? -1, ...printed }) : Effect.die(failure))
    )
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

export interface Place {
  readonly name: "file" | "Redis"
  /** `--url` and `--namespace` of an engine of this test's own. */
  readonly at: ReadonlyArray<string>
  readonly layer: Layer.Layer<Engine.Services, unknown>
}

const place = (name: Place["name"], url: string, namespace: string): Place => ({
  name,
  at: ["--url", url, "--namespace", namespace],
  layer: Engine.layer({ url, namespace })
})

/** One test of the command line on both engines; each time with a fresh one. */
export const onBoth = (
  sentence: string,
  body: (place: Place) => Effect.Effect<unknown, unknown, Scope.Scope>,
  timeout = 30_000
): void => {
  const namespace = (): string => `cli-${crypto.randomUUID()}`
  it.live(
    `${sentence} [file]`,
    () => Effect.scoped(Effect.flatMap(fileUrl, (url) => body(place("file", url, namespace())))),
    timeout
  )
  it.live(
    `${sentence} [Redis]`,
    () => Effect.scoped(Effect.flatMap(Effect.promise(sharedUrl), (url) => body(place("Redis", url, namespace())))),
    timeout
  )
}

/** Run parts until nothing is left to do. */
export const drained = (place: Place, parts: ReadonlyArray<Part<any, any>>): Effect.Effect<void, unknown> =>
  Effect.gen(function* () {
    yield* Worker.idle
    yield* Worker.stop
  }).pipe(
    Effect.provide(Layer.provide(Worker.layer(parts as never) as Layer.Layer<any, any, any>, place.layer))
  ) as Effect.Effect<void, unknown>

/** It went well, and printed nothing but data. */
export const good = (outcome: Outcome): string => {
  assert.strictEqual(outcome.code, 0, outcome.err + outcome.out)
  return outcome.out
}

export const json = (outcome: Outcome): any => JSON.parse(good(outcome))

export const jsonLines = (outcome: Outcome): ReadonlyArray<any> =>
  good(outcome)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))

/** One line on stderr says what is wrong; nothing on stdout, no stack. */
export const refused = (outcome: Outcome, code: number, ...said: ReadonlyArray<string>): void => {
  assert.strictEqual(outcome.code, code, outcome.err)
  assert.strictEqual(outcome.out, "")
  const lines = outcome.err.trim().split("\n")
  assert.strictEqual(lines.length, 1, outcome.err)
  assert.match(lines[0]!, /^millrace: ./)
  for (const text of said) assert.include(outcome.err, text)
  assert.notMatch(outcome.err, /\n\s+at /)
}
