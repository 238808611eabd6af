/** Partitions that were put aside, with what failed and what can be done. */
import { act } from "./act.js"
import { path, post } from "./api.js"
import { read } from "./dialog.js"
import { h } from "./dom.js"
import { firstLine, time } from "./format.js"
import { liveTable } from "./liveTable.js"
import { button, code, facts } from "./parts.js"

const details = ({ error, member, offset, partition, positions, processor, reason, since }) => {
  const list = facts()
  list.update([
    ["Reason", reason],
    ["Since", time(since)],
    ["Put aside by", member],
    ["First event that failed", offset],
    [
      "A skip passes",
      positions.map(({ first, last, topic }) => `${topic} ${first}${first === last ? "" : ` to ${last}`}`).join(", ")
    ]
  ])
  return read(`${processor}, partition ${partition}`, list.element, h("h3", {}, "Error"), code(error, "Error"))
}

const release = ({ partition, processor }) =>
  act({
    run: () => post(path`/processors/${processor}/partitions/${partition}/release`),
    done: () => `Released: partition ${partition} of ${processor} meets the event again.`
  })

const skip = ({ offset, partition, processor }) =>
  act({
    ask: {
      title: "Skip the unit that failed?",
      text: `Partition ${partition} of ${processor} goes on behind ${offset}. What is skipped is not handled, now or later.`,
      verb: "Skip it",
      danger: true
    },
    run: () => post(path`/processors/${processor}/partitions/${partition}/skip`),
    done: () => `Skipped: partition ${partition} of ${processor} goes on.`
  })

const actions = (item) => {
  let current = item
  const of = ({ partition, processor }) => `partition ${partition} of ${processor}`
  return {
    element: h(
      "div",
      { class: "actions" },
      button("Details", () => details(current), { kind: "quiet", about: `Details of ${of(item)}` }),
      button("Release", () => release(current), { about: `Release ${of(item)}` }),
      button("Skip", () => skip(current), { kind: "danger", about: `Skip what failed in ${of(item)}` })
    ),
    update: (item) => {
      current = item
    }
  }
}

/** Of one processor, or of all. */
export const quarantineTable = (isOne) =>
  liveTable({
    caption: "Quarantined partitions",
    keyOf: ({ partition, processor }) => `${processor}/${partition}`,
    empty:
      "No partition is in quarantine. One gets here if its policy says so, or if it crashes its workers again and again.",
    columns: [
      ...(isOne ? [] : [{ head: "Processor", kind: "name", text: ({ processor }) => processor }]),
      { head: "Partition", kind: "number", text: ({ partition }) => String(partition) },
      { head: "Reason", text: ({ reason }) => reason },
      { head: "Error", kind: "long", text: ({ error }) => firstLine(error) },
      { head: "Offset", kind: "code", text: ({ offset }) => offset },
      { head: "Since", kind: "time", text: ({ since }) => time(since) },
      { head: "Actions", kind: "actions", node: actions }
    ]
  })
