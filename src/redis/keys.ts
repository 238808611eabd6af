/**
 * Where things lie in Redis. `s` is a shard: partition `p` lies in shard `p % shards`, and all keys of a shard share the
 * hash tag `{ns:s}`, so one script may touch them on a cluster. Names were validated above; they hold no colon.
 *
 * | key | type | what | lifetime |
 * | --- | --- | --- | --- |
 * | `{ns:s}:log:<topic>:<p>` | stream | the partition: entries of fields; one group per processor | retention |
 * | `{ns:s}:count:<topic>:<p>` | hash | `extra`: events beyond one per entry, ever added; `gone`: those of them that were trimmed; `trimmed`: entries trimmed, as last seen; `floor`: the group that held back the last trim; `g:<processor>`: "<extra events done> <those of entries done whole>" | as the log |
 * | `{ns:s}:owner:<processor>` | hash | `<p>`: "<epoch> <commit number><trial> <incarnation>" (the trial: see `probation.ts`); `<p>:<topic>`: "<offset> <entry> <entries done> <events done>"; `<p>:<topic> time`, `<p>: time`: how far it is in time, in a topic and by the clock, where a table has windows | until removed |
 * | `{ns:s}:tables:<processor>` | set | names of the tables that have rows here | until removed |
 * | `{ns:s}:table:<processor>:<table>:<p>` | hash | key to value | until removed |
 * | `{ns:s}:windows:<processor>:<table>:<p>` | zset | key of a row of a table with windows, by when something is to be done about it | while there are any |
 * | `{ns:s}:due:<processor>:<table>:<p>` | sorted set | keys of rows that expire, by when, in milliseconds since 1970 | until removed |
 * | `{ns:s}:parked:<processor>:<p>` | stream | parked events: `lane`, `topic` and `offset`, then the event's own fields | while there are any |
 * | `{ns:s}:lanes:<processor>:<p>` | hash | lane to "<first id> <last id> <events> <attempts> <due> <since> <error>" | while there are any |
 * | `{ns:s}:parkedNext:<processor>:<p>` | hash | id of a parked event to that of the next one in its lane | while there are any |
 * | `{ns:s}:outbox:<processor>:<p>` | stream | emitted entries for other shards: `topic`, `partition`, `kind`, `limit`, `count`, then the entry's own fields; the id is "<epoch>-<n>" | until delivered, the key until removed |
 * | `{ns:s}:seen:<topic>:<p>` | hash | "<processor>:<partition>" to the id of the last entry taken from its outbox | for ever |
 * | `{ns:s}:inbox:<asker>` | stream | replies to one process | a minute after it was prolonged last |
 * | `{ns:s}:publisher:<topic>:<publisher>` | hash | `<p>`: the number of its last append; `<p>:<n % 5>`: one of the last five, "<number> <entries> <ids> <holder>" | 10 to 20 minutes after the last append |
 * | `{ns:s}:producer:<topic>:<p>` | hash | a user's producer to "<sequence> <id>" | for ever |
 * | `{ns:s}:safe` | string | written before WAIT, so that it waits also when a script had nothing to write | for ever |
 * | `{ns}:topics` | hash | topic to "<partitions> <shards>" | for ever |
 * | `{ns}:topicFacts` | hash | topic to what is kept for tools, as JSON (see `internal/topicFacts.ts`) | for ever |
 * | `{ns}:processors` | hash | processor to "<partitions> <topics, sorted, by commas>" | until removed |
 * | `{ns}:tables` | hash | table to "<processor> <partitions> <1 if placed by hash>" | until the processor is removed |
 *
 * The coordinator's keys are in `coordinator.ts`.
 */

/** The hash tag of one shard. */
export const shardTag = (namespace: string, shard: number): string => `{${namespace}:${shard}}`

export const log = (tag: string, topic: string, partition: number): string => `${tag}:log:${topic}:${partition}`
export const count = (tag: string, topic: string, partition: number): string => `${tag}:count:${topic}:${partition}`
export const owner = (tag: string, processor: string): string => `${tag}:owner:${processor}`
export const tables = (tag: string, processor: string): string => `${tag}:tables:${processor}`
export const table = (tag: string, processor: string, name: string, partition: number): string =>
  `${tag}:table:${processor}:${name}:${partition}`
export const windows = (tag: string, processor: string, name: string, partition: number): string =>
  `${tag}:windows:${processor}:${name}:${partition}`
export const due = (tag: string, processor: string, name: string, partition: number): string =>
  `${tag}:due:${processor}:${name}:${partition}`
/** All that a table has in a partition. */
export const ofTable = (tag: string, processor: string, name: string, partition: number): ReadonlyArray<string> => [
  table(tag, processor, name, partition),
  due(tag, processor, name, partition),
  windows(tag, processor, name, partition)
]
export const parked = (tag: string, processor: string, partition: number): string =>
  `${tag}:parked:${processor}:${partition}`
export const lanes = (tag: string, processor: string, partition: number): string =>
  `${tag}:lanes:${processor}:${partition}`
export const parkedNext = (tag: string, processor: string, partition: number): string =>
  `${tag}:parkedNext:${processor}:${partition}`
export const outbox = (tag: string, processor: string, partition: number): string =>
  `${tag}:outbox:${processor}:${partition}`
export const seen = (tag: string, topic: string, partition: number): string => `${tag}:seen:${topic}:${partition}`
export const inbox = (tag: string, asker: string): string => `${tag}:inbox:${asker}`
export const publisher = (tag: string, topic: string, id: string): string => `${tag}:publisher:${topic}:${id}`
export const producer = (tag: string, topic: string, partition: number): string =>
  `${tag}:producer:${topic}:${partition}`
export const safe = (key: string): string => `${key.slice(0, key.indexOf("}") + 1)}:safe`
export const topics = (namespace: string): string => `{${namespace}}:topics`
export const topicFacts = (namespace: string): string => `{${namespace}}:topicFacts`
export const processors = (namespace: string): string => `{${namespace}}:processors`
export const tableLayouts = (namespace: string): string => `{${namespace}}:tables`
