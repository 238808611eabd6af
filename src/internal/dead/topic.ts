/**
 * Dead-letter topics: the source under another name, so that a letter lies in the shard of its source. Kept for ever, unless
 * somebody says otherwise: whoever says nothing of it (to list letters, or to put them back) means the same topic.
 */
import { Equal } from "effect"
import * as Retention from "../../Retention.ts"
import type { Any, Topic } from "../../Topic.ts"
import { checkName, invalid } from "../names.ts"
import type { Definition } from "../run/definition.ts"

// One object for each name: what is compiled and declared for a topic is remembered by its identity.
const known = new WeakMap<Any, Map<string, Any>>()

/** What was said of how long letters are kept. */
const said = new WeakMap<Any, Retention.Retention>()

/** The topic that takes the dead letters of `source`; `name` if it is not `<source>.dead`. */
export const deadOf = <A, K>(
  source: Topic<A, K>,
  name = `${source.name}.dead`,
  retention?: Retention.Retention
): Topic<A, K> => {
  let names = known.get(source)
  if (names === undefined) known.set(source, (names = new Map()))
  let dead = names.get(name)
  if (dead === undefined) {
    checkName("topic", name)
    const fields = { ...source, name, retention: Retention.forever, letters: true }
    dead = Object.assign(Object.create(Object.getPrototypeOf(source)), fields) as Topic<A, K>
    names.set(name, dead)
  }
  if (retention !== undefined) keep(dead, retention)
  return dead
}

const keep = (dead: Any, retention: Retention.Retention): void => {
  const before = said.get(dead)
  if (before !== undefined && !Equal.equals(before, retention)) {
    throw invalid(
      `dead-letter topic ${dead.name}: it was given two retentions, ${shown(before)} and ${shown(retention)}: give it the ` +
        `same one everywhere`
    )
  }
  said.set(dead, retention)
  Object.assign(dead, { retention })
}

const shown = (retention: Retention.Retention): string => JSON.stringify(retention)

/**
 * Where a processor's policies may send dead letters, as far as that is known before an event fails: what `Policy.choose`
 * chooses is declared when it is first written to.
 */
export const deadTopicsOf = ({ topics, wraps }: Pick<Definition, "topics" | "wraps">): ReadonlyArray<Any> => {
  const targets = wraps.flatMap((wrap) => (wrap._tag === "Catch" ? wrap.deadTopics : []))
  const all = targets.flatMap(({ retention, topic: name }) => topics.map((topic) => deadOf(topic, name, retention)))
  return Array.from(new Set(all))
}
