/** Topics with what they hold and take in; of one of them, every partition's log. */
import { get, path } from "../api.js"
import { chart } from "../chart.js"
import { h, setText, show } from "../dom.js"
import { compact, count, period, perSecond } from "../format.js"
import { history } from "../history.js"
import { badge, linkCell, liveTable } from "../liveTable.js"
import { facts, section } from "../parts.js"
import { poll } from "../poll.js"
import { hrefOf } from "../router.js"

const retentionOf = (retention) => {
  switch (retention?._tag) {
    case undefined:
      return "not stored"
    case "Consumed":
      return `until consumed, ${compact(retention.capacity)} per partition`
    case "MaxLength":
      return `the last ${compact(retention.events)} per partition`
    case "MaxAge":
      return `for ${period(retention.millis)}`
    default:
      return "for ever"
  }
}

const kindOf = ({ flat, letters }) => (letters ? ["warn", "dead letters"] : flat ? ["calm", "flat"] : ["calm", ""])

export const topics = () => {
  const table = liveTable({
    caption: "Topics",
    keyOf: ({ name }) => name,
    empty: "No topic has been written to or read from yet. Publish an event: Topic.publish, or millrace send.",
    columns: [
      linkCell(
        "Topic",
        ({ name }) => name,
        ({ name }) => hrefOf("topics", name)
      ),
      { head: "Kind", node: badge(kindOf) },
      { head: "Partitions", kind: "number", text: ({ partitions }) => count(partitions) },
      { head: "Stored", kind: "number", text: ({ name }) => perSecond(history.topic(name).last("stored") ?? 0) },
      { head: "Events", kind: "number", hint: "Kept now", text: ({ events }) => compact(events) },
      {
        head: "Ever",
        kind: "number",
        hint: "Events that were ever stored",
        text: ({ eventsAdded }) => compact(eventsAdded)
      },
      { head: "Keeps", kind: "long", text: ({ retention }) => retentionOf(retention) },
      {
        head: "Read by",
        kind: "long",
        text: ({ processors }) => (processors.length === 0 ? "nobody" : processors.join(", "))
      }
    ]
  })
  return { title: "Topics", element: table.element, update: (now) => table.update(now.topics) }
}

const logMillis = 3_000

export const topic = (name) => {
  const about = facts()
  const flow = chart({ title: "Stored", series: ["events"], format: perSecond })
  const logs = liveTable({
    caption: `Partitions of ${name}`,
    keyOf: ({ partition }) => partition,
    empty: "Its partitions are being read.",
    columns: [
      { head: "Partition", kind: "number", text: ({ partition }) => String(partition) },
      { head: "Events", kind: "number", text: ({ events }) => count(events) },
      { head: "Entries", kind: "number", text: ({ entries }) => count(entries) },
      { head: "Events ever", kind: "number", text: ({ eventsAdded }) => count(eventsAdded) },
      { head: "First", kind: "code", text: ({ first }) => (first === "0-0" ? "–" : first) },
      { head: "Last", kind: "code", text: ({ last }) => (last === "0-0" ? "–" : last) }
    ]
  })
  const problem = h("p", { class: "banner", hidden: true })
  const stop = poll(
    logMillis,
    (signal) => get(path`/topics/${name}`, { signal }),
    (found) => {
      show(problem, false)
      logs.update(found.logs)
    },
    ({ message }) => {
      setText(problem, message)
      show(problem, true)
    }
  )
  return {
    title: name,
    kind: "Topic",
    element: h(
      "div",
      { class: "stack" },
      problem,
      about.element,
      h("div", { class: "charts" }, flow.element),
      section("Partitions", logs.element)
    ),
    update: (now) => {
      const found = now.topics.find((one) => one.name === name)
      if (found === undefined) return
      about.update([
        ["Partitions", count(found.partitions)],
        ["Kept now", `${count(found.events)} events in ${count(found.entries)} entries`],
        ["Ever stored", `${count(found.eventsAdded)} events`],
        ["Keeps", retentionOf(found.retention)],
        ["Read by", found.processors.length === 0 ? "nobody" : found.processors.join(", ")]
      ])
      const { columns, times } = history.topic(name)
      flow.update(times, [columns.stored])
    },
    close: () => {
      stop()
      flow.close()
    }
  }
}
