/** Dead-letter topics: the source under another name, kept for ever, so that a letter lies in the shard of its source. */
import * as Retention from "../../Retention.ts"
import type { Any, Topic } from "../../Topic.ts"
import { checkName } from "../names.ts"
import type { Definition } from "../run/definition.ts"

// One object for each name: what is compiled and declared for a topic is remembered by its identity.
const known = new WeakMap<Any, Map<string, Any>>()

/** The topic that takes the dead letters of `source`; `name` if it is not `<source>.dead`. */
export const deadOf = <A, K>(source: Topic<A, K>, name = `${source.name}.dead`): Topic<A, K> => {
  let names = known.get(source)
  if (names === undefined) known.set(source, (names = new Map()))
  let dead = names.get(name)
  if (dead === undefined) {
    checkName("topic", name)
    const fields = { ...source, name, retention: Retention.forever, letters: true }
    dead = Object.assign(Object.create(Object.getPrototypeOf(source)), fields) as Topic<A, K>
    names.set(name, dead)
  }
  return dead
}

/**
 * Where a processor's policies may send dead letters, as far as that is known before an event fails: what `Policy.choose`
 * chooses is declared when it is first written to.
 */
export const deadTopicsOf = ({ topics, wraps }: Pick<Definition, "topics" | "wraps">): ReadonlyArray<Any> => {
  const names = new Set(wraps.flatMap((wrap) => (wrap._tag === "Catch" ? wrap.deadTopics : [])))
  return Array.from(names).flatMap((name) => topics.map((topic) => deadOf(topic, name)))
}
