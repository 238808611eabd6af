/** Keys that wait aside behind an event that failed, page by page. */
import { act } from "./act.js"
import { get, path, post } from "./api.js"
import { read } from "./dialog.js"
import { h } from "./dom.js"
import { count, firstLine, time } from "./format.js"
import { pagedTable } from "./pagedTable.js"
import { button, code, facts } from "./parts.js"

const nameOf = ({ key, offset }) => (key === null ? `event ${offset}` : `key ${key}`)
const laneOf = ({ key, offset, topic }) => ({ key, topic, offset })

const details = (item) => {
  const list = facts()
  list.update([
    ["Partition", String(item.partition)],
    ["Topic", item.topic ?? ""],
    ["Events that wait", count(item.count)],
    ["Attempts at the first", count(item.attempts)],
    ["Tried again", time(item.due)],
    ["Since", time(item.since)]
  ])
  const error = item.error === "" ? "It was not tried yet: it waited for others." : item.error
  return read(`${item.processor}, ${nameOf(item)}`, list.element, h("h3", {}, "Last error"), code(error, "Last error"))
}

export const parkedTable = (processor) => {
  const change = (item, verb, body, words) => ({
    run: () =>
      post(path`/processors/${processor}/partitions/${item.partition}/parked/` + verb, { ...laneOf(item), ...body }),
    done: () => `${words}: ${nameOf(item)} of ${processor}.`
  })
  const doIt = async (options) => {
    if (await act(options)) await table.read()
  }
  const skip = (item, all) =>
    doIt({
      ask: {
        title: all ? `Skip all that wait for ${nameOf(item)}?` : `Skip the first event of ${nameOf(item)}?`,
        text: `${all ? `${count(item.count)} events are` : "It is"} not handled, now or later. The key then goes on.`,
        verb: all ? "Skip all" : "Skip it",
        danger: true
      },
      ...change(item, "skip", { all }, all ? "Skipped all" : "Skipped the first event")
    })
  const actions = (item) => {
    let current = item
    return {
      element: h(
        "div",
        { class: "actions" },
        button("Details", () => details(current), { kind: "quiet", about: `Details of ${nameOf(item)}` }),
        button("Release", () => doIt(change(current, "release", {}, "Tried again now")), {
          about: `Release ${nameOf(item)}`
        }),
        button("Skip", () => skip(current, false), {
          kind: "danger",
          about: `Skip the first event of ${nameOf(item)}`
        }),
        button("Skip all", () => skip(current, true), { kind: "danger", about: `Skip all of ${nameOf(item)}` })
      ),
      update: (item) => {
        current = item
      }
    }
  }
  const table = pagedTable({
    caption: `Parked keys of ${processor}`,
    keyOf: (item) => JSON.stringify([item.partition, item.key, item.topic, item.offset]),
    empty: "No key waits aside.",
    load: (cursor, signal) =>
      get(path`/processors/${processor}/parked` + (cursor === undefined ? "" : path`?cursor=${cursor}`), { signal }),
    columns: [
      { head: "Key", kind: "name", text: ({ key, offset }) => key ?? offset },
      { head: "Partition", kind: "number", text: ({ partition }) => String(partition) },
      { head: "Events", kind: "number", text: ({ count: n }) => count(n) },
      { head: "Attempts", kind: "number", text: ({ attempts }) => count(attempts) },
      { head: "Error", kind: "long", text: ({ error }) => firstLine(error) },
      { head: "Tried again", kind: "time", text: ({ due }) => time(due) },
      { head: "Actions", kind: "actions", node: actions }
    ]
  })
  return table
}
