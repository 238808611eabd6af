/** Medians, ratios per round, tables for the terminal, and what was aimed at. */
import type { Measure } from "./measure.ts"
import { quantile } from "./measure.ts"

/** One row with all its rounds. */
export interface Row {
  readonly id: string
  readonly label: string
  readonly against: string | undefined
  readonly rounds: ReadonlyArray<Measure>
}

export interface SectionResult {
  readonly id: string
  readonly title: string
  readonly rows: ReadonlyArray<Row>
}

interface Spread {
  readonly median: number
  readonly least: number
  readonly most: number
}

const spread = (values: ReadonlyArray<number>): Spread => ({
  median: median(values),
  least: Math.min(...values),
  most: Math.max(...values)
})

const median = (values: ReadonlyArray<number>): number =>
  values.length % 2 === 1
    ? quantile(values, 0.5)
    : ([...values].sort((a, b) => a - b)[values.length / 2 - 1]! + quantile(values, 0.5)) / 2

const rate = (measure: Measure): number => measure.events / measure.seconds

/** The same quantity of two rows, round by round. */
const ratios = (row: Row, other: Row, of: (measure: Measure) => number | undefined): Spread | undefined => {
  const values: Array<number> = []
  row.rounds.forEach((measure, i) => {
    const mine = of(measure)
    const theirs = other.rounds[i] === undefined ? undefined : of(other.rounds[i])
    if (mine !== undefined && theirs !== undefined) values.push(mine / theirs)
  })
  return values.length === 0 ? undefined : spread(values)
}

const whole = (value: number): string => Math.round(value).toLocaleString("en-US")
const two = (value: number): string => value.toFixed(2)
const between = (s: Spread, show: (value: number) => string): string =>
  `${show(s.median)} (${show(s.least)}-${show(s.most)})`
const medianOf = (row: Row, of: (measure: Measure) => number | undefined): number | undefined => {
  const values = row.rounds.map(of).filter((value) => value !== undefined)
  return values.length === 0 ? undefined : median(values)
}

const columns = ["", "events/s (least-most)", "ratio (least-most)", "us of Node", "us of Redis", "peak MiB"] as const

/** A section as lines of text. */
export const table = (section: SectionResult): string => {
  const isLatency = section.rows.some((row) => row.rounds.some((measure) => measure.p50 !== undefined))
  const head = isLatency ? [...columns, "p50 ms (least-most)", "p99 ms (least-most)"] : columns
  const body = section.rows.map((row) => {
    const other = section.rows.find((candidate) => candidate.id === row.against)
    const ratio = other === undefined ? undefined : ratios(row, other, rate)
    const redis = medianOf(row, (measure) => measure.redis)
    const cells = [
      row.label,
      between(spread(row.rounds.map(rate)), whole),
      ratio === undefined ? "-" : between(ratio, two),
      two(medianOf(row, (measure) => measure.node)!),
      redis === undefined ? "-" : two(redis),
      whole(Math.max(...row.rounds.map((measure) => measure.peak)))
    ]
    if (!isLatency) return cells
    const p50 = spread(row.rounds.map((measure) => measure.p50!))
    const p99 = spread(row.rounds.map((measure) => measure.p99!))
    return [...cells, between(p50, two), between(p99, two)]
  })
  const rows = [head, ...body]
  const widths = head.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)))
  const line = (row: ReadonlyArray<string>): string =>
    row
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!)))
      .join("  ")
      .trimEnd()
  return [section.title, line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n")
}

interface Target {
  readonly text: string
  readonly section: string
  readonly row: string
  readonly other?: string
  readonly of: (measure: Measure) => number | undefined
  readonly least?: number
  readonly most?: number
}

const consumeRate = { section: "consume", of: rate }

const targets: ReadonlyArray<Target> = [
  {
    text: "publishAll / pipelines of 1,000",
    section: "produce",
    row: "publishAll",
    other: "pipelines",
    of: rate,
    least: 2.5
  },
  {
    text: "publish from 400 fibers / 400 callers",
    section: "publish",
    row: "publish-400",
    other: "callers-400",
    of: rate,
    least: 2
  },
  {
    text: "consume a log of publishAll / group loop",
    ...consumeRate,
    row: "batched-generator",
    other: "group",
    least: 1.5
  },
  { text: "consume single entries / group loop", ...consumeRate, row: "single-generator", other: "group", least: 0.85 },
  {
    text: "consume a log of publishAll / naive loop",
    ...consumeRate,
    row: "batched-generator",
    other: "naive",
    least: 4
  },
  { text: "consume with a table write / group loop", ...consumeRate, row: "batched-table", other: "group", least: 1.2 },
  {
    text: "consume with a table write / without, log of publishAll",
    ...consumeRate,
    row: "batched-table",
    other: "batched-generator",
    least: 0.75
  },
  {
    text: "consume with a table write / without, single entries",
    ...consumeRate,
    row: "single-table",
    other: "single-generator",
    least: 0.75
  },
  ...["redis", "file"].map(
    (engine): Target => ({
      text: `take-over p50, 1,000,000 keys / 1,000 keys, ${engine}`,
      section: "takeover",
      row: `takeover-${engine}-1000000`,
      other: `takeover-${engine}-1000`,
      of: (measure) => measure.p50,
      most: 1.5
    })
  ),
  {
    text: "Redis CPU per event, log of publishAll / group loop",
    section: "consume",
    row: "batched-generator",
    other: "group",
    of: (measure) => measure.redis,
    most: 0.4
  },
  {
    text: "Redis CPU per event, single entries / group loop",
    section: "consume",
    row: "single-generator",
    other: "group",
    of: (measure) => measure.redis,
    most: 0.4
  },
  {
    text: "latency p50 / XREAD BLOCK",
    section: "latency",
    row: "latency-ours",
    other: "latency-hand",
    of: (m) => m.p50,
    most: 1.3
  },
  {
    text: "latency p99 / XREAD BLOCK",
    section: "latency",
    row: "latency-ours",
    other: "latency-hand",
    of: (m) => m.p99,
    most: 1
  },
  {
    text: "ask p50 / two XADDs and two blocking reads",
    section: "ask",
    row: "ask-ours",
    other: "ask-hand",
    of: (m) => m.p50,
    most: 3
  },
  {
    text: "consume from a file / group loop on Redis",
    section: "embedded",
    row: "file-generator",
    other: "group",
    of: rate,
    least: 1
  },
  {
    text: "other keys beside a poisoned one under park, Redis / none poisoned",
    section: "park",
    row: "park-one",
    other: "park-none",
    of: rate,
    least: 0.95
  },
  {
    text: "other keys beside a poisoned one under park, memory / none poisoned",
    section: "park",
    row: "park-memory-one",
    other: "park-memory-none",
    of: rate,
    least: 0.95
  },
  {
    text: "consume with metrics scraped, JSON logs, tracing off / plain",
    section: "telemetry",
    row: "watched-off",
    other: "watched-none",
    of: rate,
    least: 0.95
  },
  { text: "enqueue jobs / BullMQ", section: "enqueue", row: "ours-add", other: "bull-add", of: rate, least: 8 },
  { text: "process jobs / BullMQ", section: "jobs", row: "ours", other: "bull", of: rate, least: 8 },
  {
    text: "Redis CPU per job / BullMQ",
    section: "jobs",
    row: "ours",
    other: "bull",
    of: (measure) => measure.redis,
    most: 0.25
  },
  {
    text: "jobs in order per key / groupmq",
    section: "ordered",
    row: "ours-ordered",
    other: "groupmq",
    of: rate,
    least: 5
  },
  {
    text: "latency of jobs p50 / BullMQ",
    section: "joblatency",
    row: "ours-latency",
    other: "bull-latency",
    of: (measure) => measure.p50,
    most: 1
  },
  {
    text: "exchange of 100 jobs, 1,000,000 waiting / 1,000 waiting",
    section: "waiting",
    row: "waiting-many",
    other: "waiting-few",
    of: (measure) => measure.p50,
    most: 1.25
  },
  {
    text: "peak MiB of a slow handler, Redis",
    section: "memory",
    row: "slow-redis",
    of: (measure) => measure.peak,
    most: 300
  },
  {
    text: "peak MiB of a slow handler, file",
    section: "memory",
    row: "slow-file",
    of: (measure) => measure.peak,
    most: 300
  }
]

export interface Verdict {
  readonly target: string
  readonly value: Spread
  readonly wanted: string
  readonly met: boolean
}

/** Those targets whose section ran. */
export const verdicts = (sections: ReadonlyArray<SectionResult>): ReadonlyArray<Verdict> =>
  targets.flatMap((target): ReadonlyArray<Verdict> => {
    const rows = sections.find((section) => section.id === target.section)?.rows
    const row = rows?.find((candidate) => candidate.id === target.row)
    const other = rows?.find((candidate) => candidate.id === target.other)
    if (row === undefined || (target.other !== undefined && other === undefined)) return []
    const value =
      other === undefined
        ? spread(row.rounds.map(target.of).filter((each) => each !== undefined))
        : ratios(row, other, target.of)
    if (value === undefined) return []
    const { least, most } = target
    return [
      {
        target: target.text,
        value,
        wanted: least === undefined ? `at most ${most}` : `at least ${least}`,
        met: least === undefined ? value.median <= most! : value.median >= least
      }
    ]
  })

export const verdictLines = (all: ReadonlyArray<Verdict>): string => {
  const width = Math.max(0, ...all.map(({ target }) => target.length))
  return all
    .map(
      ({ met, target, value, wanted }) =>
        `${target.padEnd(width)}  ${between(value, two).padEnd(24)}  ${wanted.padEnd(13)}  ${met ? "met" : "NOT MET"}`
    )
    .join("\n")
}
