/** What is stored of a job, read: bytes in, values out. The layouts are those of `jobKeys.ts`. */
import type { Claimed, Item, Priority, Reason, State } from "../JobStore.ts"

const priorities: Readonly<Record<string, Priority>> = { h: "high", m: "medium", l: "low" }
const newline = 10
const separator = "\u001f"

/** A record that is not over. */
const headOf = (record: Buffer) => {
  const end = record.indexOf(newline)
  // One byte per character is quicker to read; what is not ASCII is read again as it is.
  const latin = record.toString("latin1", 1, end)
  const head = /[\u0080-\u00ff]/.test(latin) ? record.toString("utf8", 1, end) : latin
  const [since, id, name, priority, format, group, headers, after] = head.split("\t")
  return {
    since: Number(since),
    id: id!,
    name: name!,
    priority: priorities[priority!]!,
    format: format === "" ? undefined : format,
    group: group === "" ? undefined : group,
    headers: headers!,
    after: after === "" ? none : after!.split(separator),
    payload: record.subarray(end + 1)
  }
}

const none: ReadonlyArray<string> = []

const stateOf = (row: string) => {
  const [, failures, lost, place, reason, ledger] = /^(\d+) (\d+) (\d+) (\S*)\n(.*)$/s.exec(row)!
  return {
    failures: Number(failures),
    lost: Number(lost),
    place: place!,
    reason: reason === "" ? undefined : (reason as Reason),
    history: ledger === "" ? none : ledger!.trimEnd().split("\n")
  }
}

const untouched = stateOf("0 0 0 \n")

export const claimedOf = (record: Buffer, state: Buffer | null | undefined, claim: number): Claimed => {
  const { failures, lost } = state ? stateOf(state.toString()) : untouched
  const { after, format, group, headers, id, name, payload, priority, since } = headOf(record)
  return { id, name, priority, claim, failures, lost, enqueuedAt: since, format, payload, headers, group, after }
}

/** Record, state, claim, since when it is dead, how many it waits for, progress. */
export type Row = readonly [
  record: Buffer | null,
  state: Buffer | null,
  active: Buffer | null,
  dead: Buffer | null,
  waiting: Buffer | null,
  progress: Buffer | null
]

const isOver = 0x66

/** `due` gives the moment of a delayed one; undefined if there is no such job any more. */
export const itemOf = (
  id: string,
  [record, state, active, dead, waiting, progress]: Row,
  now: number
): { readonly item: Item; readonly place: string } | undefined => {
  if (record === null) return undefined
  if (record[0] === isOver) {
    const end = record.indexOf(newline)
    const [expires, at, kind, name, priority, failures, format, ledger] = record.toString("latin1", 1, end).split("\t")
    if (Number(expires) <= now) return undefined
    const size = Number(ledger)
    const history = record.subarray(end + 1, end + 1 + size).toString()
    const item: Item = {
      id,
      name: name!,
      state: kind === "S" ? "done" : "cancelled",
      priority: priorities[priority!]!,
      failures: Number(failures),
      lost: 0,
      enqueuedAt: Number(at),
      at: Number(at),
      headers: "",
      group: undefined,
      reason: undefined,
      history: size === 0 ? none : history.trimEnd().split("\n"),
      progress: undefined,
      format: format === "" ? undefined : format,
      data: record.subarray(end + 1 + size)
    }
    return { item, place: "0" }
  }
  const head = headOf(record)
  const { failures, history, lost, place, reason } = state === null ? untouched : stateOf(state.toString())
  const found: State = dead !== null ? "dead" : active !== null ? "active" : waiting !== null ? "waiting" : "ready"
  const item: Item = {
    id,
    name: head.name,
    state: found,
    priority: head.priority,
    failures,
    lost,
    enqueuedAt: head.since,
    at: dead === null ? head.since : Number(dead),
    headers: head.headers,
    group: head.group,
    reason,
    history,
    progress: progress?.toString(),
    format: head.format,
    data: head.payload
  }
  return { item, place: found === "ready" ? place : "0" }
}
