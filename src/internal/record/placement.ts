/** Where an event goes, and when it happened: what the user's functions give. What they throw is an `EncodeError`. */
import { DateTime } from "effect"
import { EncodeError } from "../../Errors.ts"
import type { Any, EmitOptions } from "../../Topic.ts"

export const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const keyOf = (topic: Any, value: unknown, options: EmitOptions | undefined): string | undefined => {
  if (options?.key !== undefined) return String(options.key)
  if (topic.partitionBy === undefined) return undefined
  try {
    const key = topic.partitionBy(value)
    return key === undefined ? undefined : String(key)
  } catch (error) {
    throw new EncodeError({ target: topic.name, reason: "Key", detail: `partitionBy threw: ${reason(error)}` })
  }
}

const timeOf = (topic: Any, value: unknown, options: EmitOptions | undefined): number | undefined => {
  if (options?.timestamp !== undefined) return DateTime.toEpochMillis(options.timestamp)
  if (topic.timestamp === undefined) return undefined
  try {
    const time = topic.timestamp(value)
    const at = time instanceof Date ? time.getTime() : DateTime.toEpochMillis(time)
    if (!Number.isSafeInteger(at)) throw new Error(`timestamp gave ${String(time)}`)
    return at
  } catch (error) {
    throw new EncodeError({ target: topic.name, reason: "Key", detail: `timestamp threw: ${reason(error)}` })
  }
}

const partitionOf = (topic: Any, key: string | undefined, options: EmitOptions | undefined, next: () => number) => {
  const partition = options?.partition ?? (key === undefined ? next() : topic.partitioner(key, topic.partitions))
  if (!Number.isInteger(partition) || partition < 0 || partition >= topic.partitions) {
    throw new EncodeError({
      target: topic.name,
      reason: "Key",
      detail: `partition ${partition} does not exist: the topic has partitions 0 to ${topic.partitions - 1}`
    })
  }
  return partition
}

export interface Placed {
  readonly partition: number
  readonly key: string | undefined
  readonly headers: Readonly<Record<string, string>> | undefined
  readonly timestamp: number | undefined
}

/** Throws an `EncodeError`. `next` gives a partition to events without a key. */
export const place = (topic: Any, value: unknown, options: EmitOptions | undefined, next: () => number): Placed => {
  const key = keyOf(topic, value, options)
  return {
    partition: partitionOf(topic, key, options, next),
    key,
    headers: options?.headers,
    timestamp: timeOf(topic, value, options)
  }
}
