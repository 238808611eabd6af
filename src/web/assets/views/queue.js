/** The jobs of a queue, by state, with what each was given and how its runs ended. */
import { act } from "../act.js"
import { get, path, post } from "../api.js"
import { read } from "../dialog.js"
import { h, setText, show } from "../dom.js"
import { count, firstLine, time } from "../format.js"
import { badge, liveTable } from "../liveTable.js"
import { pagedTable } from "../pagedTable.js"
import { button, code, facts, inLine, payload, section } from "../parts.js"
import { recurringTable } from "../recurring.js"
import { queueActions, queueState } from "./queues.js"

const states = ["ready", "delayed", "waiting", "active", "dead", "done", "cancelled"]
const priorities = { high: "high", medium: "", low: "low" }

const removeButton = (name) =>
  button(
    "Remove",
    () =>
      act({
        ask: {
          title: `Remove ${name}?`,
          text: "It is forgotten with all of its jobs, results and schedules. What runs goes on, and what becomes of it is not stored.",
          verb: "Remove it",
          danger: true
        },
        run: () => post(path`/queues/${name}/remove`),
        done: () => `${name} is removed.`
      }),
    { kind: "danger", about: `Remove ${name}` }
  )

const attempts = (history) => {
  const table = liveTable({
    caption: "Runs that did not end well",
    keyOf: ({ at, attempt, exit }) => `${at} ${attempt} ${exit}`,
    empty: "None so far.",
    columns: [
      { head: "When", kind: "time", text: ({ at }) => time(at) },
      { head: "Attempt", kind: "number", text: ({ attempt }) => (attempt === null ? "–" : String(attempt)) },
      { head: "Ended", text: ({ exit }) => exit },
      { head: "Worker", text: ({ worker }) => worker ?? "–" },
      { head: "Said", kind: "long", text: ({ message }) => firstLine(message ?? "") }
    ]
  })
  table.update(history)
  return table.element
}

const open = async (queue, id) => {
  const job = await get(path`/queues/${queue}/jobs/${id}`)
  const list = facts()
  list.update([
    ["Job", job.name],
    ["State", job.state],
    ["Why", job.reason ?? ""],
    ["Priority", job.priority],
    ["Group", job.group ?? ""],
    ["Enqueued", time(job.enqueuedAt)],
    [job.state === "delayed" ? "Due" : "Since", time(job.at)],
    ["Failures", count(job.failures)],
    ["Leases lost", count(job.lost)],
    ["Progress", job.progress ?? ""],
    ["Headers", Object.keys(job.headers).length === 0 ? "" : code(JSON.stringify(job.headers, undefined, 2), "Headers")]
  ])
  await read(
    `Job ${id}`,
    list.element,
    h("h3", {}, job.state === "done" ? "Result" : "Payload"),
    ...payload(job.payload),
    h("h3", {}, "Attempts"),
    attempts(job.history)
  )
}

export const queue = (name) => {
  const [choiceId, filterId] = ["job-state", "job-name"]
  const choice = h("select", { id: choiceId }, ...states.map((state) => h("option", { value: state }, state)))
  const filter = h("input", { id: filterId, type: "search", size: "16", spellcheck: "false", autocomplete: "off" })
  const tools = queueActions(name)
  const state = badge(queueState)
  const about = h("p", { class: "about" })
  const words = h("span", {})
  let mark
  const doIt = async (id, verb, options) => {
    if (await act({ run: () => post(path`/queues/${name}/jobs/${id}/` + verb), ...options })) await table.read()
  }
  const retry = (id) => doIt(id, "retry", { done: () => `Job ${id} is ready now.` })
  const cancel = (id) =>
    doIt(id, "cancel", {
      ask: {
        title: `Cancel job ${id}?`,
        text: "One that waits is cancelled at once; the worker of one that runs is told to stop it.",
        verb: "Cancel the job",
        danger: true
      },
      done: () => `Job ${id} is cancelled, or its worker is told.`
    })
  const actions = ({ id, state }) => {
    const again = button("Retry", () => retry(id), { about: `Retry job ${id}` })
    const end = button("Cancel", () => cancel(id), { kind: "danger", about: `Cancel job ${id}` })
    const update = ({ state }) => {
      again.hidden = state !== "dead" && state !== "delayed"
      end.hidden = !["ready", "delayed", "waiting", "active"].includes(state)
    }
    update({ state })
    const look = button("Open", () => open(name, id), { kind: "quiet", about: `Open job ${id}` })
    return { element: h("div", { class: "actions" }, look, again, end), update }
  }
  const table = pagedTable({
    caption: `Jobs of ${name}`,
    keyOf: ({ id }) => id,
    empty: "No job is in this state.",
    load: (cursor, signal) => {
      const query = new URLSearchParams({ state: choice.value })
      if (cursor !== undefined) query.set("cursor", cursor)
      if (filter.value.trim() !== "") query.set("job", filter.value.trim())
      return get(`${path`/queues/${name}/jobs`}?${query}`, { signal })
    },
    tools: [h("label", { for: choiceId }, "State"), choice, h("label", { for: filterId }, "Job"), filter],
    columns: [
      { head: "Id", kind: "code", text: ({ id }) => id },
      { head: "Job", kind: "name", text: (job) => job.name },
      { head: "Priority", text: ({ priority }) => priorities[priority] },
      { head: "Payload", kind: "payload", text: (job) => inLine(job.payload) },
      { head: "Failures", kind: "number", text: ({ failures }) => count(failures) },
      { head: "Last error", kind: "long", text: ({ error }) => firstLine(error ?? "") },
      {
        head: "At",
        kind: "time",
        hint: "When it is due, or ended; else when it was enqueued",
        text: ({ at }) => time(at)
      },
      { head: "Actions", kind: "actions", node: actions }
    ]
  })
  choice.addEventListener("change", table.first)
  filter.addEventListener("change", table.first)
  const recurring = recurringTable(name)
  const gone = h("p", { class: "empty", hidden: true }, `There is no queue ${name} on this engine.`)
  about.append(words)
  let isChosen = false
  return {
    title: name,
    kind: "Queue",
    tools: [tools.element, removeButton(name)],
    element: h(
      "div",
      { class: "stack" },
      gone,
      about,
      section("Jobs", table.element),
      section("Jobs that recur", recurring.element)
    ),
    update: (now) => {
      const found = now.queues.find((one) => one.name === name)
      show(gone, found === undefined)
      show(about, found !== undefined)
      if (found === undefined) return
      tools.update(found)
      recurring.update(now)
      if (mark === undefined) about.prepend((mark = state(found)).element)
      mark.update(found)
      const { active, dead, delayed, done, ready, waiting } = found.counts
      setText(
        words,
        ` ${count(ready)} ready, ${count(delayed)} delayed, ${count(waiting)} waiting, ${count(active)} active, ${count(dead)} dead, ${count(done)} done`
      )
      if (isChosen) return
      isChosen = true
      // Where there is something to do first.
      choice.value =
        dead > 0 ? "dead" : (["active", "ready", "delayed", "waiting"].find((one) => found.counts[one] > 0) ?? "done")
      table.read()
    },
    close: table.close
  }
}
