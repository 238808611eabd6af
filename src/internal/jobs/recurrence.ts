/**
 * How the slots of a job that recurs follow: pure, so that a year of them takes no time. A timing is stored as one line that
 * reads the same wherever it was written, so that equal ones are equal text.
 */
import { Cron, DateTime, Option } from "effect"
import type { Firing, Recurrence } from "../../JobStore.ts"
import { following, type Timing, upTo } from "../schedule/timing.ts"

export type Recurring = Exclude<Timing, { readonly _tag: "Once" }>

/** A slot that nobody came for in so many milliseconds, or before the next one, is missed. */
export const late = 60_000

export const write = (timing: Recurring): string => {
  if (timing._tag === "Every") return JSON.stringify({ every: timing.millis })
  const { cron } = timing
  const sets = [cron.seconds, cron.minutes, cron.hours, cron.days, cron.months, cron.weekdays]
  return JSON.stringify({
    cron: sets.map((set) => Array.from(set).toSorted((a, b) => a - b)),
    // How days of the month and of the week go together: Cron has it, and does not show it.
    and: (cron as { readonly and?: boolean }).and,
    overlap: cron.onDstOverlap,
    // For people.
    expression: Cron.format(cron),
    zone: Option.getOrUndefined(Option.map(cron.tz, DateTime.zoneToString))
  })
}

/** Throws if it is not one that this release can write. */
export const read = (text: string): Recurring => {
  const { and, cron, every, overlap, zone } = JSON.parse(text)
  if (typeof every === "number") return { _tag: "Every", millis: every }
  const [seconds, minutes, hours, days, months, weekdays] = cron
  const tz = Option.getOrThrow(DateTime.zoneFromString(zone ?? "UTC"))
  return {
    _tag: "Cron",
    cron: Cron.make({ seconds, minutes, hours, days, months, weekdays, and, onDstOverlap: overlap, tz })
  }
}

/** The first slot behind a moment. */
export const slotAfter = (timing: Recurring, moment: number): number => following(timing, moment, moment)!

/** What is to be done about one that is due. */
export const firingOf = ({ job, missed, name, revision, slot, timing }: Recurrence, now: number): Firing => {
  const how = read(timing)
  const { newest } = upTo(how, slot, now)
  const runs = missed === "last" || now - newest < late
  const headers = { ...(job.headers === "" ? {} : JSON.parse(job.headers)), schedule: name, slot: isoOf(newest) }
  return {
    name,
    revision,
    slot,
    next: slotAfter(how, newest),
    run: runs ? { slot: newest, job: { ...job, id: `${name}@${newest}`, headers: JSON.stringify(headers) } } : undefined
  }
}

const isoOf = (millis: number): string => DateTime.formatIso(DateTime.makeUnsafe(millis))
