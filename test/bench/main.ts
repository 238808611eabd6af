/**
 * `npm run bench`: Millrace beside hand-written ioredis loops, in alternating rounds on a redis-server of its own. Each
 * variant has a child process (this file again), which lives through all rounds; while one works, the others are idle.
 *
 * Where a ratio near 1 is asked for, the variants of a section share one process, since two that do the same differ more.
 *
 * --rounds n (5, after a warm-up)  --json  --only produce,publish,consume,both,latency,ask,embedded,park,telemetry,takeover,
 * memory, and of jobs enqueue,jobs,busy,ordered,joblatency,waiting
 * --rows a,b (those of one section, by their ids in the JSON)
 * --events n (100,000 per round)  --queued n (1,000,000)  --rate n (1,000 a second)  --seconds n (5)  --ioredis 5|6
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { cpus, tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { makeServer } from "../support/redis.ts"
import type { Measure } from "./measure.ts"
import { type Row, type SectionResult, table, verdictLines, verdicts } from "./report.ts"
import { makeWorld, type Section, type Settings, type Variant } from "./section.ts"
import { sections } from "./variants.ts"

type Answer = { readonly measure: Measure } | { readonly failure: string }

const count = (name: string, text: string | undefined, standard: number): number => {
  const value = text === undefined ? standard : Number(text)
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new Error(`--${name} takes a whole number of at least 1, not ${text}`)
}

const options = () => {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean", default: false },
      rounds: { type: "string" },
      only: { type: "string" },
      rows: { type: "string" },
      events: { type: "string" },
      queued: { type: "string" },
      rate: { type: "string" },
      seconds: { type: "string" },
      ioredis: { type: "string", default: "5" }
    }
  })
  const only = values.only?.split(",")
  const known = sections.map((section) => section.id)
  const unknown = only?.find((id) => !known.includes(id))
  if (unknown !== undefined) throw new Error(`--only: there is no ${unknown}; there are ${known.join(", ")}`)
  if (values.ioredis !== "5" && values.ioredis !== "6") throw new Error(`--ioredis is 5 or 6, not ${values.ioredis}`)
  return {
    json: values.json,
    rounds: count("rounds", values.rounds, 5),
    sections: sections.filter((section) => only?.includes(section.id) ?? true),
    rows: values.rows?.split(","),
    sizes: {
      events: count("events", values.events, 100_000),
      queued: count("queued", values.queued, 1_000_000),
      rate: count("rate", values.rate, 1_000),
      seconds: count("seconds", values.seconds, 5)
    },
    ioredis: values.ioredis === "6" ? (6 as const) : (5 as const)
  }
}

interface Question {
  readonly variant: string
  readonly round: number
}

/** The process of a variant, or of several, asked for one round after the other. */
class Child {
  private readonly process: ChildProcess
  constructor(settings: Settings, section: Section) {
    this.process = fork(import.meta.filename, [JSON.stringify({ settings, section: section.id })], {
      env: { ...process.env, MILLRACE_BENCH_CHILD: "1" }
    })
  }
  async round(variant: Variant, round: number): Promise<Measure> {
    this.process.send({ variant: variant.id, round } satisfies Question)
    const answer: Answer = await new Promise((resolve) => {
      const onExit = (code: number | null): void => resolve({ failure: `its process ended with code ${code}` })
      this.process.once("exit", onExit)
      this.process.once("message", (message) => {
        this.process.off("exit", onExit)
        resolve(message as Answer)
      })
    })
    if ("failure" in answer) throw new Error(`${variant.label}: ${answer.failure}`)
    return answer.measure
  }
  async end(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const ended = once(this.process, "exit")
    this.process.kill("SIGKILL")
    await ended
  }
}

const serve = (text: string): void => {
  const { section, settings } = JSON.parse(text) as { readonly settings: Settings; readonly section: string }
  const { setup, variants } = sections.find((candidate) => candidate.id === section)!
  const worlds = new Map<string, ReturnType<typeof makeWorld>>()
  // Nobody waits for the figures any more.
  process.once("disconnect", () => process.exit(1))
  process.on("message", ({ round, variant: id }: Question) => {
    const variant = [...setup, ...variants].find((candidate) => candidate.id === id)!
    const world = worlds.get(id) ?? makeWorld(settings, variant)
    worlds.set(id, world)
    variant.run(world, round).then(
      (measure) => process.send!({ measure } satisfies Answer),
      (error: unknown) =>
        process.send!({ failure: error instanceof Error ? error.stack! : String(error) } satisfies Answer)
    )
  })
}

const runSection = async (
  settings: Settings,
  section: Section,
  rounds: number,
  rows: ReadonlyArray<string> | undefined,
  say: (text: string) => void
): Promise<SectionResult> => {
  const redis = new Redis(settings.url)
  await redis.flushall()
  await redis.quit()
  for (const variant of section.setup) {
    const child = new Child(settings, section)
    await child.round(variant, 0).finally(() => child.end())
  }
  const wanted = section.variants.filter((variant) => rows?.includes(variant.id) ?? true)
  const results: ReadonlyArray<Row & { readonly rounds: Array<Measure> }> = wanted.map(({ against, id, label }) => ({
    id,
    label,
    against,
    rounds: []
  }))
  const children: Array<Child> = []
  try {
    // Where there is one round, one process after the other: what is left of memory is its own.
    for (let round = section.once === true ? 1 : 0; round <= (section.once === true ? 1 : rounds); round++) {
      say(`${section.id}: ${round === 0 ? "warm-up" : `round ${round}`}\n`)
      for (let i = 0; i < wanted.length; i++) {
        const child = (children[section.together === true ? 0 : i] ??= new Child(settings, section))
        const measure = await child.round(wanted[i]!, round)
        if (round > 0) results[i]!.rounds.push(measure)
      }
    }
  } finally {
    await Promise.all(children.map((child) => child.end()))
  }
  return { id: section.id, title: section.title, rows: results }
}

const bench = Effect.gen(function* () {
  const { ioredis, json, rounds, rows, sections: wanted, sizes } = options()
  const server = yield* makeServer()
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-bench-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
  )
  const settings: Settings = { ...sizes, url: server.url, directory, ioredis }
  const results: Array<SectionResult> = []
  for (const section of wanted) {
    const say = (text: string): void => void (json || process.stderr.write(text))
    const result = yield* Effect.promise(() => runSection(settings, section, rounds, rows, say))
    results.push(result)
    if (!json) console.log(`\n${table(result)}\n`)
  }
  const found = verdicts(results)
  const machine = { node: process.version, cpus: `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}`, ioredis }
  if (json) console.log(JSON.stringify({ machine, sizes, rounds, sections: results, targets: found }, null, 2))
  else {
    console.log(
      `${rounds} rounds after a warm-up, ${sizes.events.toLocaleString("en-US")} events of 200 bytes; Node ${process.version}, ` +
        `ioredis ${ioredis}, ${machine.cpus}. Medians; a ratio is taken within each round, to the row by hand.\n`
    )
    console.log(verdictLines(found))
  }
})

if (process.env.MILLRACE_BENCH_CHILD === "1") serve(process.argv[2]!)
else await Effect.runPromise(Effect.scoped(bench))
