/** What the parts of an app are made of, by kind and name: for tools that describe it, or act on what it names. */
import type { Declared } from "../Table.ts"
import type { Any as AnyTopic } from "../Topic.ts"
import type { Contract } from "./agent/contract.ts"
import type { Handler, Spec } from "./jobs/spec.ts"
import { type Common, type Definition, isProcessing } from "./run/definition.ts"
import { isSchedule, type Definition as Schedule } from "./schedule/definition.ts"

export interface Catalog {
  readonly topics: ReadonlyMap<string, AnyTopic>
  /** Agents are processors too. */
  readonly processors: ReadonlyMap<string, Definition>
  readonly agents: ReadonlyMap<string, Contract>
  readonly tables: ReadonlyMap<string, Declared>
  readonly jobs: ReadonlyMap<string, Spec>
  readonly schedules: ReadonlyMap<string, Schedule>
}

type Parts = ReadonlyArray<{
  readonly name: string
  readonly definition: Common
  readonly job?: Handler | undefined
}>

const byName = <A extends { readonly name: string }>(all: ReadonlyArray<A>): ReadonlyMap<string, A> =>
  new Map(all.map((one) => [one.name, one]))

export const catalogOf = (parts: Parts): Catalog => {
  const processors = parts.filter(isProcessing).map(({ definition }) => definition)
  return {
    topics: byName(processors.flatMap(({ topics }) => topics)),
    processors: byName(processors),
    agents: byName(processors.flatMap(({ agent }) => agent ?? [])),
    // What a join holds is a table of the runtime's own.
    tables: byName(
      processors.flatMap(({ tables }) => tables).filter(({ definition }) => definition.holding === undefined)
    ),
    jobs: byName(parts.flatMap(({ job }) => job?.spec ?? [])),
    schedules: byName(parts.filter(isSchedule).map(({ definition }) => definition))
  }
}

/** Of several: the first one of a name counts. */
export const merge = (catalogs: ReadonlyArray<Catalog>): Catalog => {
  const all = <A>(of: (catalog: Catalog) => ReadonlyMap<string, A>): ReadonlyMap<string, A> =>
    new Map(catalogs.toReversed().flatMap((catalog) => Array.from(of(catalog))))
  return {
    topics: all(({ topics }) => topics),
    processors: all(({ processors }) => processors),
    agents: all(({ agents }) => agents),
    tables: all(({ tables }) => tables),
    jobs: all(({ jobs }) => jobs),
    schedules: all(({ schedules }) => schedules)
  }
}
