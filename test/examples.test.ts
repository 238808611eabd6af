/**
 * Every example, run as a user runs it: a process of its own, on the embedded engine and on Redis; what it prints is
 * compared with what it must print. The flights table is compared with one that is computed from the data directly.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Redis } from "ioredis"
import { afterAll, assert, describe, it } from "vitest"
import { Partitioner } from "../src/index.ts"
import { sharedUrl } from "./support/redis.ts"

const directory = fileURLToPath(new URL("../examples", import.meta.url))

// Nothing of this process' settings: an example is judged by what the test gives it.
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MILLRACE_")))

const scratch = mkdtempSync(join(tmpdir(), "millrace-examples-"))
const running = new Set<ChildProcess>()
afterAll(() => {
  for (const child of running) child.kill("SIGKILL")
  rmSync(scratch, { recursive: true, force: true })
})

interface Run {
  readonly child: ChildProcess
  readonly output: () => string
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>
  /** Resolves once the output holds a match. */
  readonly printed: (pattern: RegExp) => Promise<RegExpExecArray>
}

const start = (name: string, variables: Readonly<Record<string, string>> = {}): Run => {
  const child = spawn(process.execPath, [join(directory, `${name}.ts`)], {
    env: { ...environment, ...variables },
    stdio: ["ignore", "pipe", "pipe"]
  })
  running.add(child)
  let output = ""
  let look: Array<() => void> = []
  const changed = (): void => {
    const waiting = look
    look = []
    for (const one of waiting) one()
  }
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text
      changed()
    })
  }
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once("close", (code, signal) => {
      running.delete(child)
      resolve(signal ?? code)
    })
  })
  const printed = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const match = pattern.exec(output)
        if (match !== null) resolve(match)
        else look.push(check)
      }
      check()
      void ended.then((code) =>
        reject(new Error(`${name} ended with ${code} before it printed ${pattern}:\n${output}`))
      )
    })
  return { child, output: () => output, ended, printed }
}

/** What is logged, with its stack and its fields. */
const logged = /^\[\d\d:\d\d:\d\d\.\d+\] [\s\S]*?\n\}\n/gm

const finished = async (run: Run): Promise<ReadonlyArray<string>> => {
  assert.strictEqual(await run.ended, 0, run.output())
  return run.output().replaceAll(logged, "").trim().split("\n")
}

let count = 0
const engines: ReadonlyArray<readonly [string, () => Promise<Record<string, string>>]> = [
  ["embedded", async () => ({})],
  ["redis", async () => ({ MILLRACE_URL: await sharedUrl(), MILLRACE_NAMESPACE: `examples-${process.pid}-${++count}` })]
]

/** A real wait for the outside world may be long on a busy machine. */
const patience = 120_000

// ------------------------------------------------------------------------------------------------------- small ones

const ordered: Record<string, ReadonlyArray<string | RegExp>> = {
  joins: ["ride 1 of ada in London: 12 pounds", "ride 2 of alan in Wilmslow was not paid in time"],
  agent: ["looms left: 1", "sold out: 1 left", "delivered: 1, 2, 3"],
  bank: [
    "5000 transfers between 1000 accounts; 5 times a worker was killed",
    "receipts: 5000, of 5000 transfers",
    // Chance may leave an account out.
    /^accounts in use: (\d+) of \1, 0 with a wrong balance$/,
    /^money: (\d+), opened with \1$/
  ],
  "batch-to-store": [/^500 rows in ([4-9]|[1-4]\d) calls$/],
  "exactly-once": [
    /^processor "ledger" halted at partition \d, offset [\d.-]+: Error: crashed at 250$/,
    /: crashed at 500$/,
    /: crashed at 750$/,
    "expected: 1000 transfers, sum 499500",
    "balances: sum 499500",
    "receipts: 1000, sum 499500"
  ],
  windows: ["09:00 cellar: 19", "09:00 roof: 26", "10:00 roof: 23", "kept: 26, still open: 25"],
  jobs: ["bytes: 12", "recurs: nightly, next 2 slots known", "failed: NoSuchPage", "dead: fetch-page"],
  layers: [
    "smtp: to ada@example.org: welcome",
    "fake: ada@example.org",
    "smtp: to ada@example.org: welcome",
    "smtp: to grace@example.org: welcome"
  ],
  pipeline: ["2 alerts of shop", "shop: DISK FULL", "shop: DISK FULL AGAIN", "behind: 0"],
  schedules: [
    "warmed up, once on every worker",
    /^the leader has begun tick \d+, and is stopped in the middle of it$/,
    /^the next leader runs tick \d+ again$/,
    "stored: 1 report of it"
  ],
  serializers: [
    "notes-compressed (1 transforms): true",
    "notes-encrypted (2 transforms): true",
    `prices: [{"symbol":"ACME","cents":120,"closed":false}]`
  ],
  tail: [
    /^stored: ada in [01] at \/$/,
    /^stored: ada in [01] at \/engines$/,
    "live: ada at /looms",
    "live: ada at /mills"
  ],
  "typed-failures": [
    "charged 1",
    "payment 3 is for nothing: ignored on attempt 1",
    "charged 4",
    /^processor "charge" halted at partition 0, offset [\d.-]+: TooMuch: payment 5 needs a second signature$/,
    "2 events wait for the next start"
  ]
}

const long: Record<string, number> = { flights: 290, bank: 125 }

const compare = (lines: ReadonlyArray<string>, expected: ReadonlyArray<string | RegExp>): void => {
  assert.strictEqual(lines.length, expected.length, lines.join("\n"))
  expected.forEach((line, i) => {
    if (typeof line === "string") assert.strictEqual(lines[i], line)
    else assert.match(lines[i]!, line)
  })
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => (typeof address === "object" && address ? resolve(address.port) : reject(new Error("no port"))))
    })
  })

describe.each(engines)("on %s", (_, variables) => {
  it.each(Object.keys(ordered).filter((name) => name !== "bank"))("%s", { timeout: patience }, async (name) => {
    compare(await finished(start(name, await variables())), ordered[name]!)
  })

  it("hello", { timeout: patience }, async () => {
    const lines = await finished(start("hello", await variables()))
    // Customers are in no order, the orders of each are.
    assert.deepStrictEqual(lines.toSorted(), ["ada owes 10", "ada owes 42", "committed: 42", "grace owes 5"])
    assert.isBelow(lines.indexOf("ada owes 10"), lines.indexOf("ada owes 42"))
    assert.strictEqual(lines.at(-1), "committed: 42")
  })

  it("beside-http", { timeout: patience }, async () => {
    const port = await freePort()
    const run = start("beside-http", { ...(await variables()), PORT: String(port) })
    await run.printed(/Listening on/)
    const url = `http://127.0.0.1:${port}/votes/tea`
    for (let i = 0; i < 3; i++) {
      const posted = (await (await fetch(url, { method: "POST" })).json()) as { readonly offset: string }
      assert.match(posted.offset, /^\d+-\d+\.\d+$/)
    }
    for (let counted = 0; counted < 3; ) {
      counted = ((await (await fetch(url)).json()) as { readonly count: number }).count
      assert.isAtMost(counted, 3)
      // A real wait: another process counts.
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    run.child.kill("SIGTERM")
    assert.strictEqual(await run.ended, 0, run.output())
  })
})

// Most of its time it waits for the leases of workers that it killed.
describe("bank", { concurrent: true }, () => {
  it.each(engines)("on %s", { timeout: patience }, async (_, variables) => {
    compare(await finished(start("bank", await variables())), ordered["bank"]!)
  })
})

it("every example has a test, and few are long", () => {
  const names = readdirSync(directory).map((file) => file.replace(/\.ts$/, ""))
  assert.deepStrictEqual(names.toSorted(), [...Object.keys(ordered), "hello", "beside-http", "flights"].toSorted())
  for (const name of names) {
    const lines = readFileSync(join(directory, `${name}.ts`), "utf8").split("\n").length - 1
    assert.isAtMost(lines, long[name] ?? 60, name)
  }
})

// ---------------------------------------------------------------------------------------------------------- flights

interface Flight {
  readonly date: string
  readonly origin: string
  readonly destination: string
  readonly delay: number
  readonly distance: number
}

const data = new URL("../node_modules/vega-datasets/data/flights-20k.json", import.meta.url)

/** The table, computed without the library. */
const oracle = (() => {
  const flights = JSON.parse(readFileSync(data, "utf8")) as ReadonlyArray<Flight>
  const airports = Array.from(
    Map.groupBy(flights, (flight) => flight.origin),
    ([origin, departures]) => ({
      origin,
      flights: departures.length,
      delay: departures.reduce((sum, { delay }) => sum + delay, 0),
      late: departures.filter(({ delay }) => delay >= 15).length,
      miles: departures.reduce((sum, { distance }) => sum + distance, 0)
    })
  )
  const busiest = airports.toSorted((a, b) => b.flights - a.flights || (a.origin < b.origin ? -1 : 1)).slice(0, 10)
  const overdue = flights.filter(({ delay }) => delay >= 180).length
  const worst = (by: (flight: Flight) => string, least: number, only = flights) => {
    const groups = [...Map.groupBy(only, by)].map(([name, some]) => ({
      name,
      flights: some.length,
      mean: some.reduce((sum, { delay }) => sum + delay, 0) / some.length
    }))
    const [first] = groups.filter(({ flights }) => flights >= least).toSorted((a, b) => b.mean - a.mean)
    return `${groups.length.toLocaleString("en")} @: ${first!.name}, ${first!.mean.toFixed(1)} min late on average`
  }
  // An hour is over when a later one has begun in its partition.
  const hourOf = ({ date }: Flight): string => date.slice(0, 13)
  const partitionOf = ({ origin }: Flight): number => Partitioner.hash(origin, 16)
  const newest = new Map<number, string>()
  for (const flight of flights) {
    const [partition, hour] = [partitionOf(flight), hourOf(flight)]
    if (hour > (newest.get(partition) ?? "")) newest.set(partition, hour)
  }
  const over = flights.filter((flight) => hourOf(flight) < newest.get(partitionOf(flight))!)
  const hourName = (flight: Flight): string =>
    `${flight.origin}, ${hourOf(flight).replaceAll("/", "-").replace(" ", "T")}:00`
  const [mostOverdue] = Array.from(
    Map.groupBy(
      flights.filter(({ delay }) => delay >= 180),
      ({ origin }) => origin
    )
  ).toSorted(([a, x], [b, y]) => y.length - x.length || (a < b ? -1 : 1))
  const cityOf = (code: string): string => {
    const line = readFileSync(new URL("../node_modules/vega-datasets/data/airports.csv", import.meta.url), "utf8")
      .split("\n")
      .find((line) => line.startsWith(`${code},`))
    const [, , city, state] = line!.split(",")
    return `${city}, ${state}`
  }
  const kennedy = flights.filter(({ origin }) => origin === "JFK")
  const delay = kennedy.reduce((sum, { delay }) => sum + delay, 0) / kennedy.length
  return {
    overdue,
    lines: [
      "airport flights mean delay 15 min late miles flown",
      ...busiest.map(
        ({ delay, flights, late, miles, origin }) =>
          `${origin} ${flights.toLocaleString("en")} ${(delay / flights).toFixed(1)} min ` +
          `${((100 * late) / flights).toFixed(1)} % ${miles.toLocaleString("en")}`
      ),
      `20,000 flights from ${airports.length} airports; ${overdue} were three hours late or more`,
      worst(({ destination, origin }) => `${origin}-${destination}`, 20).replace(
        "@",
        "routes; the latest with 20 flights or more"
      ),
      worst(hourName, 5, over).replace("@", "hours are over; the latest"),
      `three hours late most often: from ${mostOverdue![0]} (${cityOf(mostOverdue![0])}), ${mostOverdue![1].length} times`,
      `asked about JFK: ${kennedy.length} flights, ${delay.toFixed(1)} min late on average; about nowhere: UnknownAirport`
    ]
  }
})()

/** All lines from the table's head on, and what the process said about itself. */
const reportOf = (lines: ReadonlyArray<string>) => {
  const from = lines.findIndex((line) => line.startsWith("airport "))
  const table = lines.slice(from, -1).filter((line) => line !== "")
  const own = /^this process: ([\d,]+) events in [\d.]+ s, [\d,]+ events per second$/.exec(lines.at(-1)!)
  assert.isNotNull(own, lines.join("\n"))
  return {
    lines: table.map((line) => line.trim().replace(/ {2,}/g, " ")),
    handled: Number(own[1]!.replaceAll(",", "")),
    before: lines.slice(0, from)
  }
}

/** Run once, for two tests: what it prints, and how much one process handles when it does all. */
let alone: Promise<ReturnType<typeof reportOf> & { readonly left: ReadonlyArray<string> }> | undefined
const byItself = () => {
  alone ??= (async () => {
    const temporary = mkdtempSync(join(scratch, "tmp-"))
    const report = reportOf(await finished(start("flights", { TMPDIR: temporary })))
    return { ...report, left: readdirSync(temporary) }
  })()
  return alone
}

describe("flights", () => {
  it("by itself: on an embedded engine that is new each time and leaves nothing behind", {
    timeout: patience
  }, async () => {
    const { before, handled, left, lines } = await byItself()
    assert.deepStrictEqual(lines, oracle.lines)
    assert.include(before, "100 % of 80,000 events handled")
    assert.strictEqual(handled, 80_000)
    assert.deepStrictEqual(left, [])
  })

  it.each([
    ["redis", engines[1]![1]],
    ["a file", async () => ({ MILLRACE_URL: `file:${join(scratch, "flights.db")}` })]
  ] as const)(
    "three processes on %s, one of them killed in the middle",
    { timeout: 2 * patience },
    async (_, engine) => {
      const variables = { ...(await engine()), MILLRACE_LEASE: "2 seconds", FLIGHTS_PACE: "1 millis" }
      // It handles some by itself before the others are there, so it is missed.
      const victim = start("flights", variables)
      await victim.printed(/^[2-8]\d % of 80,000 events handled$/m)
      const others = [1, 2].map(() => start("flights", variables))
      await Promise.race(others.map((run) => run.printed(/^\d\d % of 80,000 events handled$/m)))
      victim.child.kill("SIGKILL")
      assert.strictEqual(await victim.ended, "SIGKILL")
      assert.notInclude(victim.output(), "airport", "it was killed too late to show anything")

      let handled = 0
      for (const run of others) {
        const report = reportOf(await finished(run))
        assert.deepStrictEqual(report.lines, oracle.lines)
        handled += report.handled
      }
      // The rest was the work of the killed one: it was in the middle of things.
      assert.isBelow(handled, (await byItself()).handled)

      // What is finished is printed at once, without the pace.
      const report = reportOf(await finished(start("flights", variables)))
      assert.deepStrictEqual(report.lines, oracle.lines)
      assert.strictEqual(report.handled, 0)
    }
  )

  it("a publisher that is killed in the middle is made up for by the next", { timeout: patience }, async () => {
    const redis = new Redis(await sharedUrl())
    try {
      let stored = 0
      let variables: Record<string, string> = {}
      // Usually the first is caught in the middle; one that was too quick is no test of this.
      for (let tries = 0; tries < 10 && !(stored > 0 && stored < 20_000); tries++) {
        variables = { ...(await engines[1]![1]()), MILLRACE_LEASE: "1 second" }
        // The layout is documented: one stream for each partition.
        const count = async (): Promise<number> => {
          const log = (partition: number) => `{${variables["MILLRACE_NAMESPACE"]}:0}:log:flights:${partition}`
          const lengths = await Promise.all(Array.from({ length: 16 }, (_, partition) => redis.xlen(log(partition))))
          return lengths.reduce((sum, length) => sum + length, 0)
        }
        // Slow enough that nothing is consumed, and trimmed, meanwhile.
        const run = start("flights", { ...variables, FLIGHTS_PACE: "10 seconds" })
        while ((await count()) === 0) assert.isNull(run.child.exitCode, run.output())
        run.child.kill("SIGKILL")
        await run.ended
        stored = await count()
      }
      assert.isAbove(stored, 0)
      assert.isBelow(stored, 20_000)
      const report = reportOf(await finished(start("flights", variables)))
      assert.deepStrictEqual(report.lines, oracle.lines)
    } finally {
      redis.disconnect()
    }
  })
})
