/**
 * What the looks add up to since the page was opened: rates and lags over time, and what each rebalance has changed. A rate
 * is the difference of two looks, so it needs no counter of its own in any worker.
 */

/** Fifteen minutes at a look a second. */
const most = 900
const mostChanges = 60

class Series {
  times = []
  columns = {}
  push(time, values) {
    this.times.push(time)
    for (const [name, value] of Object.entries(values)) (this.columns[name] ??= []).push(value)
    if (this.times.length > most) for (const list of [this.times, ...Object.values(this.columns)]) list.shift()
  }
  last(name) {
    return this.columns[name]?.at(-1) ?? 0
  }
}

const topics = new Map()
const processors = new Map()
const total = new Series()
const changes = new Map()
const touched = new Map()
let before

const seriesOf = (map, name) => {
  let series = map.get(name)
  if (series === undefined) map.set(name, (series = new Series()))
  return series
}

const byName = (list, nameOf = (one) => one.name) => new Map(list.map((one) => [nameOf(one), one]))

/** Per second between two looks; what runs backwards (a reset, a seek) is no rate. */
const rateOf = (now, then, seconds) => (then === undefined || seconds <= 0 ? null : Math.max(0, (now - then) / seconds))

const sumOf = (values) => values.reduce((sum, value) => sum + (value ?? 0), 0)

const compareOwners = (at, now, then) => {
  const moves = []
  for (let partition = 0; partition < now.owners.length; partition++) {
    const [to, from] = [now.owners[partition], then.owners[partition] ?? null]
    if (to?.member === from?.member && to?.epoch === from?.epoch) continue
    moves.push({ partition, from: from?.member, to: to?.member, epoch: to?.epoch })
    touched.set(`${now.name}/${partition}`, Date.parse(at))
  }
  if (moves.length === 0) return
  const joined = now.members.filter((member) => !then.members.includes(member))
  const left = then.members.filter((member) => !now.members.includes(member))
  const list = changes.get(now.name) ?? []
  changes.set(now.name, [{ at, generation: now.generation, joined, left, moves }, ...list].slice(0, mostChanges))
}

/** Takes in a look. */
export const take = (overview) => {
  const time = Date.parse(overview.at) / 1_000
  const seconds = before === undefined ? 0 : time - before.time
  const added = byName(overview.topics)
  const stored = []
  for (const [name, topic] of added) {
    const value = rateOf(topic.eventsAdded, before?.topics.get(name)?.eventsAdded, seconds)
    seriesOf(topics, name).push(time, { stored: value })
    // What processors write into topics of dead letters is not what came in.
    if (!topic.letters) stored.push(value)
  }
  const lags = byName(overview.lags, ({ processor }) => processor)
  const handled = []
  let [events, worst] = [0, 0]
  for (const processor of overview.processors) {
    const lag = lags.get(processor.name)
    if (lag === undefined) continue
    const past = sumOf(processor.topics.map((topic) => added.get(topic)?.eventsAdded)) - lag.events
    const then = before?.past.get(processor.name)
    const value = rateOf(past, then, seconds)
    handled.push({ name: processor.name, past, value })
    events += lag.events
    worst = Math.max(worst, lag.seconds)
    const values = { events: lag.events, entries: lag.entries, seconds: lag.seconds, handled: value }
    seriesOf(processors, processor.name).push(time, values)
    const known = before?.processors.get(processor.name)
    if (known !== undefined) compareOwners(overview.at, processor, known)
  }
  total.push(time, {
    stored: before === undefined ? null : sumOf(stored),
    handled: before === undefined ? null : sumOf(handled.map(({ value }) => value)),
    events,
    seconds: worst
  })
  before = {
    time,
    topics: added,
    processors: byName(overview.processors),
    past: new Map(handled.map(({ name, past }) => [name, past]))
  }
}

export const history = {
  total,
  topic: (name) => seriesOf(topics, name),
  processor: (name) => seriesOf(processors, name),
  /** The latest first: `{ at, generation, joined, left, moves }`. */
  changes: (processor) => changes.get(processor) ?? [],
  /** When the owner of a partition changed last, in milliseconds since 1970; 0 if it has not. */
  changedAt: (processor, partition) => touched.get(`${processor}/${partition}`) ?? 0
}
