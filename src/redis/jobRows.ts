/** What is stored of a job, read: bytes in, values out. The layouts are those of `jobKeys.ts`. */
import type { Claimed, Item, Priority, Reason, State } from "../JobStore.ts"

const priorities: Readonly<Record<string, Priority>> = { h: "high", m: "medium", l: "low" }
const newline = 10
const separator = "\u001f"

const none: ReadonlyArray<string> = []

/** What is said of a job behind its id. */
const kindOf = (text: string) => {
  const [name, priority, format, group, headers, after] = text.split("\t")
  return {
    name: name!,
    priority: priorities[priority!]!,
    format: format === "" ? undefined : format,
    group: group === "" ? undefined : group,
    headers: headers!,
    after: after === "" ? none : after!.split(separator)
  }
}

/** Jobs come in runs of one kind. */
let latest = { text: "", kind: kindOf("\t\t\t\t\t") }

/** A record that is not over. */
const headOf = (record: Buffer) => {
  const end = record.indexOf(newline)
  // One byte per character is quicker to read; what is not ASCII is read again as it is.
  const latin = record.toString("latin1", 1, end)
  const head = /[\u0080-\u00ff]/.test(latin) ? record.toString("utf8", 1, end) : latin
  const since = head.indexOf("\t")
  const id = head.indexOf("\t", since + 1)
  const text = head.slice(id + 1)
  if (text !== latest.text) latest = { text, kind: kindOf(text) }
  return {
    since: Number(head.slice(0, since)),
    id: head.slice(since + 1, id),
    kind: latest.kind,
    payload: record.subarray(end + 1)
  }
}

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
  const { id, kind, payload, since } = headOf(record)
  const { after, format, group, headers, name, priority } = kind
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
  const { kind, payload, since } = headOf(record)
  const { failures, history, lost, place, reason } = state === null ? untouched : stateOf(state.toString())
  const found: State = dead !== null ? "dead" : active !== null ? "active" : waiting !== null ? "waiting" : "ready"
  const item: Item = {
    id,
    name: kind.name,
    state: found,
    priority: kind.priority,
    failures,
    lost,
    enqueuedAt: since,
    at: dead === null ? since : Number(dead),
    headers: kind.headers,
    group: kind.group,
    reason,
    history,
    progress: progress?.toString(),
    format: kind.format,
    data: payload
  }
  return { item, place: found === "ready" ? place : "0" }
}
