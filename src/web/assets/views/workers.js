/** Workers with what they do now; of one of them every partition, job and part. */
import { h, setText, show } from "../dom.js"
import { bytes, count, duration, perSecond, plural, since, time } from "../format.js"
import { badge, linkCell, liveTable } from "../liveTable.js"
import { markOf } from "../owners.js"
import { facts, muted, section } from "../parts.js"
import { hrefOf } from "../router.js"

const stateOf = ({ report }) => (report === null ? ["warn", "says nothing"] : ["good", "runs"])

const doingOf = ({ report }) => {
  if (report === null) return "–"
  const busy = report.partitions.filter(({ inHand }) => inHand > 0)
  const slowest = busy.toSorted((a, b) => b.millis - a.millis)[0]
  const words = [plural(report.partitions.length, "partition")]
  if (report.jobs.length > 0) words.push(plural(report.jobs.length, "job"))
  if (slowest !== undefined) {
    words.push(`${slowest.processor}/${slowest.partition} has an event in hand for ${duration(slowest.millis / 1_000)}`)
  }
  return words.join(", ")
}

const sum = (list, of) => list.reduce((all, one) => all + of(one), 0)

const markCell = {
  head: "Mark",
  kind: "mark",
  node: ({ member }) => {
    const { letter, tone } = markOf(member)
    return { element: h("b", { class: "mark", "data-owner": tone }, letter) }
  }
}

export const workers = () => {
  let now = ""
  const table = liveTable({
    caption: "Workers",
    keyOf: ({ member }) => member,
    empty: "No worker runs on this engine. Start one: Worker.run([...]), or millrace worker <module>.",
    columns: [
      markCell,
      linkCell(
        "Worker",
        ({ member }) => member,
        ({ member }) => hrefOf("workers", member)
      ),
      { head: "State", node: badge(stateOf) },
      { head: "Does", kind: "long", text: doingOf },
      {
        head: "Handled",
        kind: "number",
        text: ({ report }) => (report === null ? "–" : perSecond(sum(report.parts, (part) => part.perSecond)))
      },
      {
        head: "Failed",
        kind: "number",
        text: ({ report }) => (report === null ? "–" : count(sum(report.parts, (part) => part.failed)))
      },
      { head: "Memory", kind: "number", text: ({ report }) => (report === null ? "–" : bytes(report.memory)) },
      { head: "Runs since", kind: "time", text: ({ report }) => (report === null ? "–" : time(report.since)) },
      {
        head: "Told",
        kind: "time",
        text: ({ reportedAt }) => (reportedAt === null ? "never" : since(reportedAt, now))
      },
      {
        head: "Host",
        kind: "long",
        text: ({ report }) => (report === null ? "–" : `${report.host}, pid ${report.pid}`)
      }
    ]
  })
  return {
    title: "Workers",
    element: table.element,
    update: (look) => {
      now = look.at
      table.update(look.workers)
    }
  }
}

const partTable = () =>
  liveTable({
    caption: "Parts",
    keyOf: ({ kind, name }) => `${kind} ${name}`,
    empty: "It has no parts.",
    columns: [
      { head: "Part", kind: "name", text: ({ name }) => name },
      { head: "Kind", text: ({ kind }) => kind },
      { head: "Per second", kind: "number", text: (part) => perSecond(part.perSecond) },
      ...["processed", "failed", "retried", "ignored", "deadLettered", "parked", "quarantined"].map((name) => ({
        head: name === "deadLettered" ? "Dead-lettered" : name[0].toUpperCase() + name.slice(1),
        kind: "number",
        text: (part) => count(part[name])
      }))
    ]
  })

const partitionTable = () =>
  liveTable({
    caption: "Partitions it runs now",
    keyOf: ({ partition, processor }) => `${processor}/${partition}`,
    empty: "It runs no partition now.",
    columns: [
      { head: "Processor", kind: "name", text: ({ processor }) => processor },
      { head: "Partition", kind: "number", text: ({ partition }) => String(partition) },
      { head: "State", text: ({ inHand, paused }) => (paused ? "paused" : inHand > 0 ? "handles" : "waits") },
      { head: "In hand", kind: "number", text: ({ inHand }) => count(inHand) },
      { head: "For", kind: "number", text: ({ inHand, millis }) => (inHand === 0 ? "–" : duration(millis / 1_000)) },
      { head: "Oldest", kind: "code", text: ({ offset }) => offset ?? "–" },
      { head: "Ahead", kind: "number", text: ({ ahead }) => count(ahead) },
      { head: "To commit", kind: "number", text: ({ uncommitted }) => count(uncommitted) }
    ]
  })

const jobTable = () =>
  liveTable({
    caption: "Jobs it runs now",
    keyOf: ({ id, queue }) => `${queue}/${id}`,
    empty: "It runs no job now.",
    columns: [
      { head: "Job", kind: "name", text: ({ name }) => name },
      { head: "Queue", text: ({ queue }) => queue },
      { head: "Id", kind: "code", text: ({ id }) => id },
      { head: "For", kind: "number", text: ({ millis }) => duration(millis / 1_000) }
    ]
  })

/** The busiest; what is longest in hand first. */
const mostPartitions = 50
const busyness = ({ ahead, inHand, millis, uncommitted }) => (inHand > 0 ? 1e9 + millis : ahead + uncommitted)

export const worker = (member) => {
  const more = muted("")
  const about = facts()
  const gone = h(
    "p",
    { class: "empty", hidden: true },
    `There is no worker ${member} now: it has left, or its lease has ended.`
  )
  const silent = h("p", { class: "empty", hidden: true }, "It says nothing: it has just begun, or hangs.")
  const [parts, partitions, jobs] = [partTable(), partitionTable(), jobTable()]
  const body = h(
    "div",
    { class: "stack" },
    about.element,
    section("Parts", parts.element),
    section("Partitions", partitions.element, more),
    section("Jobs", jobs.element)
  )
  return {
    title: member,
    kind: "Worker",
    element: h("div", {}, gone, silent, body),
    update: ({ at, workers }) => {
      const found = workers.find((one) => one.member === member)
      const report = found?.report ?? null
      show(gone, found === undefined)
      show(silent, found !== undefined && report === null)
      show(body, report !== null)
      if (report === null) return
      about.update([
        ["Host", `${report.host}, pid ${report.pid}`],
        ["Node.js", report.runtime],
        ["Runs since", `${time(report.since)}, ${since(report.since, at)}`],
        ["Memory", bytes(report.memory)],
        ["Rebalances", count(report.rebalances)],
        ["Member of", found.processors.join(", ")],
        ["Told", since(found.reportedAt, at)]
      ])
      parts.update(report.parts)
      const all = report.partitions.toSorted((a, b) => busyness(b) - busyness(a))
      partitions.update(all.slice(0, mostPartitions))
      setText(
        more,
        all.length > mostPartitions ? `and ${count(all.length - mostPartitions)} more that have less to do` : ""
      )
      jobs.update(report.jobs)
    }
  }
}
