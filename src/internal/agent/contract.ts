/** What an agent is, whatever its types: its requests, and how replies and errors are written and read. */
import { Schema } from "effect"
import * as Topic from "../../Topic.ts"

export interface Contract {
  readonly name: string
  readonly topic: Topic.Any
  /** They stand for inboxes: nothing is ever stored under their names. Undefined: it does not reply. */
  readonly replies: Topic.Any | undefined
  /** Undefined: it declares no error. */
  readonly errors: Topic.Any | undefined
  readonly isError: (error: unknown) => boolean
  /** Of each engine: topics that requests have named for their replies, by address; undefined if one does not fit. */
  readonly targets: WeakMap<object, Map<string, Topic.Any | undefined>>
}

type Codec = Schema.ConstraintCodec<any, any>

export const make = (name: string, topic: Topic.Any, reply: Codec | undefined, error: Codec | undefined): Contract => {
  const standIn = (schema: Codec): Topic.Any =>
    Topic.make(name, { schema, partitions: 1, serializer: topic.serializer, maxBytes: topic.maxBytes })
  return {
    name,
    topic,
    replies: reply === undefined ? undefined : standIn(reply),
    errors: error === undefined ? undefined : standIn(error),
    isError: error === undefined ? () => false : Schema.is(error),
    targets: new WeakMap()
  }
}

/** What became of a request, beside the value; left out where that is its reply. */
export type Outcome = "error" | "defect"

/** Fields of a reply's entry, beside those of its value. */
export const replyFields = { id: "i", outcome: "o" } as const

/** What is told of an error that the contract does not name. */
export const defects = Topic.make("defect", {
  schema: Schema.Struct({ name: Schema.String, message: Schema.String }),
  partitions: 1
})
