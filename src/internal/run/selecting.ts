/** Which of its parts a worker runs, and what is wrong with them together: names, tables and partition counts that clash. */
import { Effect } from "effect"
import { Misconfigured } from "../../Errors.ts"
import type * as Part from "../../Part.ts"
import type { Any } from "../../Topic.ts"
import { invalid } from "../names.ts"
import { isProcessing } from "./definition.ts"

type Parts = ReadonlyArray<Part.Any>

/** What it throws as `Misconfigured` is its failure. */
export const attempt = <A>(f: () => A): Effect.Effect<A, Misconfigured> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(f())
    } catch (error) {
      return error instanceof Misconfigured ? Effect.fail(error) : Effect.die(error)
    }
  })

/** The parts to run, or what is wrong with them. */
export const select = (parts: Parts, only: ReadonlyArray<string> | undefined): Effect.Effect<Parts, Misconfigured> =>
  attempt(() => {
    const names = parts.map((part) => part.name)
    const twice = names.find((name, i) => names.indexOf(name) !== i)
    if (twice !== undefined) {
      throw new Misconfigured({
        reason: "DuplicateName",
        detail: parts.some((part) => part.name === twice && part.job !== undefined)
          ? `two parts are named ${twice}; a job has one handler in a worker, and no processor has its name`
          : `two parts are named ${twice}; the name is the consumer group, give each its own`
      })
    }
    const tables = new Map<string, { readonly part: string; readonly definition: unknown }>()
    const processing = parts.filter(isProcessing)
    for (const part of processing) {
      for (const table of part.definition.tables) {
        const other = tables.get(table.name)
        if (other !== undefined) {
          throw new Misconfigured({
            reason: "DuplicateName",
            detail: `table ${table.name} is declared by ${other.part} and by ${part.name}; a table belongs to one processor`
          })
        }
        tables.set(table.name, { part: part.name, definition: table.definition })
      }
    }
    const topics = new Map<string, Any>()
    for (const topic of processing.flatMap((part) => part.definition.topics)) {
      const other = topics.get(topic.name)
      if (other !== undefined && other.partitions !== topic.partitions) {
        throw new Misconfigured({
          reason: "PartitionsMismatch",
          detail: `topic ${topic.name} is defined with ${other.partitions} and with ${topic.partitions} partitions`
        })
      }
      topics.set(topic.name, topic)
    }
    const unknown = only?.find((name) => !names.includes(name))
    if (unknown !== undefined)
      throw invalid(`processors: there is no part named ${unknown}; there are ${names.join(", ")}`)
    return only === undefined ? parts : parts.filter((part) => only.includes(part.name))
  })
