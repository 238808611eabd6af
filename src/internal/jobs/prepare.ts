/** From a payload and options to what the store takes: ids, keys, groups, times. */
import { DateTime, Duration } from "effect"
import { EncodeError } from "../../Errors.ts"
import type { EnqueueOptions } from "../../Job.ts"
import type { JobStore, NewJob, Deduplicate as StoredDeduplicate } from "../../JobStore.ts"
import type { Codec } from "../../Serializer.ts"
import { reason } from "../record/placement.ts"
import { codecOf } from "./codecs.ts"
import { nextId } from "./enqueuer.ts"
import type { Spec } from "./spec.ts"

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what may not be in a text that stands in a key.
const control = /[\u0000-\u001f\u007f]/
const longest = 256

/** What stands between tabs, or in a key. */
const checkText = (spec: Spec, what: string, given: string): string => {
  if (given.length > 0 && given.length <= longest && !control.test(given) && given.isWellFormed()) return given
  throw new EncodeError({
    target: `job ${spec.name}`,
    reason: "Key",
    detail: `${what} ${JSON.stringify(given)}: use 1 to ${longest} characters, none of them a control character`
  })
}

const textBy = (spec: Spec, what: string, by: (payload: unknown) => unknown, payload: unknown): string => {
  let given: unknown
  try {
    given = by(payload)
  } catch (error) {
    throw new EncodeError({ target: `job ${spec.name}`, reason: "Key", detail: `${what} threw: ${reason(error)}` })
  }
  return checkText(spec, what, String(given))
}

const keyOf = (spec: Spec, payload: unknown, { deduplicate }: EnqueueOptions): StoredDeduplicate | undefined => {
  const own = (key: string) => `${spec.name}/${key}`
  if (deduplicate !== undefined) {
    const { key, replace, restart, within } = deduplicate
    return {
      key: own(checkText(spec, "the key", String(key))),
      within: within === undefined ? undefined : Duration.toMillis(Duration.fromInputUnsafe(within)),
      replace: replace === true || restart === true,
      restart: restart === true
    }
  }
  if (spec.key === undefined) return undefined
  return { key: own(textBy(spec, "key", spec.key, payload)), replace: false, restart: false }
}

/** Throws an `EncodeError`. */
export const prepare = (
  spec: Spec,
  payload: unknown,
  options: EnqueueOptions | undefined,
  store: JobStore["Service"],
  serializer: Codec
): NewJob => {
  const { data, format } = codecOf(spec, "payload", serializer).encode(payload)
  const { group } = spec
  if (options === undefined && spec.key === undefined && group === undefined) {
    return { id: nextId(store), name: spec.name, priority: spec.priority, format, payload: data, headers: "" }
  }
  const { after, at, delay, headers, id, priority = spec.priority } = options ?? {}
  return {
    id: id === undefined ? nextId(store) : checkText(spec, "the id", id),
    name: spec.name,
    priority,
    delay: delay === undefined ? undefined : Duration.toMillis(Duration.fromInputUnsafe(delay)),
    at: at === undefined ? undefined : DateTime.toEpochMillis(at),
    format,
    payload: data,
    headers: headers === undefined ? "" : JSON.stringify(headers),
    group: group === undefined ? undefined : textBy(spec, "group.by", group.by, payload),
    deduplicate: keyOf(spec, payload, options ?? {}),
    after: after === undefined ? undefined : Array.from(after, (one) => (typeof one === "string" ? one : one.id))
  }
}
