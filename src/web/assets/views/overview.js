/** Everything on one page: what matters now, how much flows, and what wants somebody's attention. */
import { chart } from "../chart.js"
import { h, keyed, setAttribute, setText, show } from "../dom.js"
import { compact, duration, firstLine, perSecond, plural } from "../format.js"
import { history } from "../history.js"
import { section, tile, tiles } from "../parts.js"
import { hrefOf } from "../router.js"
import { processorTable } from "./processors.js"

const silentMillis = 12_000
const sum = (list, of) => list.reduce((all, one) => all + of(one), 0)

/** What an operator should look at, worst first: `[tone, text, href]`. */
export const attention = ({ at, deadTopics, processors, quarantined, queues, workers }) => {
  const found = []
  for (const { partition, processor, error } of quarantined) {
    found.push([
      "bad",
      `${processor}: partition ${partition} is in quarantine: ${firstLine(error)}`,
      hrefOf("processors", processor)
    ])
  }
  for (const { members, name, owners, paused, quarantined: aside } of processors) {
    const unowned = owners.filter((owner) => owner === null).length - aside.length
    if (members.length === 0) found.push(["warn", `${name}: no worker runs it`, hrefOf("processors", name)])
    else if (unowned > 0)
      found.push(["warn", `${name}: ${plural(unowned, "partition")} without an owner`, hrefOf("processors", name)])
    if (paused) found.push(["warn", `${name} is paused`, hrefOf("processors", name)])
  }
  for (const { member, reportedAt } of workers) {
    const silent = reportedAt === null || Date.parse(at) - Date.parse(reportedAt) > silentMillis
    if (silent) found.push(["warn", `${member} says nothing: it has just begun, or hangs`, hrefOf("workers", member)])
  }
  for (const { letters, topic } of deadTopics) {
    if (letters > 0) found.push(["warn", `${topic}: ${plural(letters, "dead letter")}`, hrefOf("dead", topic)])
  }
  for (const { counts, name, paused } of queues) {
    if (counts.dead > 0)
      found.push(["warn", `Queue ${name}: ${plural(counts.dead, "dead job")}`, hrefOf("queues", name)])
    if (paused) found.push(["warn", `Queue ${name} is paused`, hrefOf("queues", name)])
  }
  return found.toSorted(([a], [b]) => (a === b ? 0 : a === "bad" ? -1 : 1))
}

const words = { bad: "Failed", warn: "Check" }

const attentionList = () => {
  const list = h("ul", { class: "attention" })
  const fill = keyed(
    list,
    ([, text]) => text,
    () => {
      const tone = h("span", { class: "badge" })
      const link = h("a", {})
      return {
        element: h("li", {}, tone, link),
        update: ([of, text, href]) => {
          setText(tone, words[of])
          setAttribute(tone, "data-tone", of)
          setText(link, text)
          setAttribute(link, "href", href)
        }
      }
    }
  )
  return { element: list, fill }
}

const most = 12

export const overview = () => {
  const stored = tile("Stored", "#/topics")
  const handled = tile("Handled", "#/processors")
  const behind = tile("Behind", "#/processors")
  const workers = tile("Workers", "#/workers")
  const aside = tile("Quarantined", "#/aside")
  const dead = tile("Dead letters", "#/dead")
  const jobs = tile("Jobs waiting", "#/queues")
  const throughput = chart({ title: "Throughput", series: ["stored", "handled"], format: perSecond })
  const lag = chart({ title: "Events behind", series: ["all processors"], format: compact })
  const age = chart({
    title: "Age of the oldest unhandled event",
    series: ["worst processor"],
    format: duration,
    least: 1
  })
  const list = attentionList()
  const calm = h("p", { class: "empty" }, "Nothing wants your attention.")
  const more = h("p", { class: "muted" })
  const processors = processorTable()
  return {
    title: "Overview",
    element: h(
      "div",
      { class: "stack" },
      tiles(stored, handled, behind, workers, aside, dead, jobs),
      section("Attention", list.element, more, calm),
      section("Flow", h("div", { class: "charts" }, throughput.element, lag.element, age.element)),
      section("Processors", processors.element)
    ),
    update: (now) => {
      const { columns, times } = history.total
      const total = (name) => history.total.last(name) ?? 0
      const running = sum(now.workers, ({ report }) => (report?.partitions.length ?? 0) + (report?.jobs.length ?? 0))
      stored.update(perSecond(total("stored")), { more: plural(now.topics.length, "topic") })
      handled.update(perSecond(total("handled")), { more: plural(now.processors.length, "processor") })
      behind.update(compact(total("events")), { more: `oldest ${duration(total("seconds"))}` })
      workers.update(compact(now.workers.length), {
        more: `${plural(running, "partition or job", "partitions and jobs")}`
      })
      const asides = now.quarantined.length
      aside.update(compact(asides), { more: "partitions", tone: asides > 0 ? "bad" : undefined })
      const letters = sum(now.deadTopics, (one) => one.letters)
      dead.update(compact(letters), {
        more: plural(now.deadTopics.length, "topic"),
        tone: letters > 0 ? "warn" : undefined
      })
      const waiting = sum(now.queues, ({ counts }) => counts.ready + counts.delayed + counts.waiting)
      jobs.update(compact(waiting), { more: `${compact(sum(now.queues, ({ counts }) => counts.active))} run now` })
      throughput.update(times, [columns.stored, columns.handled])
      lag.update(times, [columns.events])
      age.update(times, [columns.seconds])
      const found = attention(now)
      list.fill(found.slice(0, most))
      setText(more, found.length > most ? `and ${found.length - most} more` : "")
      show(calm, found.length === 0)
      processors.update(now)
    },
    close: () => {
      for (const one of [throughput, lag, age]) one.close()
    }
  }
}
