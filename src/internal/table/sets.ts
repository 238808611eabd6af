/**
 * What can be done to a set in a table: in a handler, or asked for from anywhere as an event that the table's processor
 * reads. A set is one row; a write that changes nothing is none, and an empty set is a row that is not there.
 */
import { Effect, HashSet, Schema } from "effect"
import type { NoInfer } from "effect/Types"
import type { DecodeError } from "../../Errors.ts"
import type { UnitOfWork } from "../../Event.ts"
import * as Partitioner from "../../Partitioner.ts"
import type { Definition, Key, Reads, Sets, Writes } from "../../Table.ts"
import * as Topic from "../../Topic.ts"
import { invalid } from "../names.ts"
import { missing } from "../run/row.ts"
import { onRow } from "../run/unit.ts"

type Members = HashSet.HashSet<unknown>
type Change = (set: Members, members: Iterable<unknown>) => Members

const all = (members: Iterable<unknown>): Members => HashSet.fromIterable(members)

/** By name. Each gives the very set that it was given if it changes nothing. */
const changes = {
  add: (set, members) => {
    for (const member of members) set = HashSet.add(set, member)
    return set
  },
  discard: (set, members) => {
    for (const member of members) set = HashSet.remove(set, member)
    return set
  },
  clear: () => HashSet.empty(),
  intersection: (set, members) => {
    const left = HashSet.intersection(set, all(members))
    return HashSet.size(left) === HashSet.size(set) ? set : left
  },
  symmetricDifference: (set, members) => {
    for (const member of all(members)) {
      set = HashSet.has(set, member) ? HashSet.remove(set, member) : HashSet.add(set, member)
    }
    return set
  }
} satisfies Record<string, Change>

/** `add` is the union with several members, `discard` the difference. */
export type Operation = keyof typeof changes

/** Somebody asks for a change of a set: to be applied by the processor that declares the table. */
export interface Request<out K, out M> {
  readonly _tag: "SetRequest"
  readonly key: K
  readonly operation: Operation
  readonly members: ReadonlyArray<M>
}

const changed = (
  { definition }: Sets<string, any, any>,
  key: unknown,
  operation: Operation,
  members: Iterable<unknown>
): Effect.Effect<Members, DecodeError> =>
  onRow(definition, key as Key, (row, unit) => {
    const set = row.table.read(row) as Members
    const next = (changes[operation] as Change)(set, members)
    if (next !== set) unit.write(row, HashSet.isEmpty(next) ? missing : next)
    return next
  })

type Written<Name extends string, M> = Effect.Effect<HashSet.HashSet<M>, DecodeError, UnitOfWork | Writes<Name>>

/** Change a set; gives what it is now. */
export const change = <Name extends string, K, M>(
  table: Sets<Name, K, M>,
  key: NoInfer<K>,
  operation: Operation,
  members: Iterable<NoInfer<M>>
): Written<Name, M> => changed(table, key, operation, members) as Written<Name, M>

/** Put a member in. */
export const add = <Name extends string, K, M>(
  table: Sets<Name, K, M>,
  key: NoInfer<K>,
  member: NoInfer<M>
): Written<Name, M> => change(table, key, "add", [member])

/** Take a member out, if it is there. */
export const discard = <Name extends string, K, M>(
  table: Sets<Name, K, M>,
  key: NoInfer<K>,
  member: NoInfer<M>
): Written<Name, M> => change(table, key, "discard", [member])

/** Whether a member is there. */
export const has = <Name extends string, K, M>(
  table: Sets<Name, K, M>,
  key: NoInfer<K>,
  member: NoInfer<M>
): Effect.Effect<boolean, DecodeError, UnitOfWork | Reads<Name>> =>
  onRow(table.definition, key as Key, (row) => HashSet.has(row.table.read(row) as HashSet.HashSet<unknown>, member))

/** What `Table.requests` gives, as the processor of the table handles it: several of one key are applied in their order. */
export const apply = <Name extends string, K, M>(
  table: Sets<Name, K, M>,
  { key, members, operation }: Request<NoInfer<K>, NoInfer<M>>
): Written<Name, M> => change(table, key, operation, members)

export const isRequest = (value: unknown): value is Request<unknown, unknown> =>
  typeof value === "object" && value !== null && "_tag" in value && value._tag === "SetRequest"

const topics = new WeakMap<Definition, Topic.Any>()

/** Where others ask for changes. */
export const requests = <Name extends string, K, M>(table: Sets<Name, K, M>): Topic.Topic<Request<K, M>, Key> => {
  const { definition, member, partitioner = Partitioner.hash } = table
  let topic = topics.get(definition)
  if (topic === undefined) topics.set(definition, (topic = makeTopic(definition, member, partitioner)))
  // Its schema is that of this very table.
  return topic as never
}

const makeTopic = (
  definition: Definition,
  member: Schema.ConstraintCodec<any, any>,
  partitioner: Partitioner.Partitioner
): Topic.Any => {
  const { name, partitions } = definition
  if (partitions === undefined) {
    throw invalid(`table ${name}: to ask for changes of its sets from elsewhere, give the table the option partitions`)
  }
  if (definition.scope === "partition") {
    throw invalid(`table ${name}: it has a set of a key in each partition, so nobody else can ask for a change`)
  }
  return Topic.make(`${name}.requests`, {
    schema: Schema.TaggedStruct("SetRequest", {
      key: definition.key,
      operation: Schema.Literals(Object.keys(changes) as Array<Operation>),
      members: Schema.Array(member)
    }),
    partitionBy: ({ key }: { readonly key: Key }) => definition.partitionBy?.(key) ?? key,
    partitions,
    partitioner
  })
}

/** Ask the processor that declares the table for a change, from any process; it is stored when this succeeds. */
export const request = <Name extends string, K, M>(
  table: Sets<Name, K, M>,
  key: NoInfer<K>,
  operation: Operation,
  members: Iterable<NoInfer<M>> = []
): Effect.Effect<void, Topic.PublishError, Topic.Client> =>
  Effect.asVoid(
    Topic.publish(requests(table), { _tag: "SetRequest", key, operation, members: Array.from(members) } as never)
  )
