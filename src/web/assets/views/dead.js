/** Dead letters: the topics that hold them, and of one of them the letters with their payloads, page by page. */
import { act } from "../act.js"
import { get, path, post } from "../api.js"
import { read } from "../dialog.js"
import { h, setText, show } from "../dom.js"
import { count, firstLine, plural, time } from "../format.js"
import { linkCell, liveTable } from "../liveTable.js"
import { pagedTable } from "../pagedTable.js"
import { button, code, facts, inLine, payload } from "../parts.js"
import { hrefOf } from "../router.js"

export const deadTopics = () => {
  const table = liveTable({
    caption: "Topics that take dead letters",
    keyOf: ({ topic }) => topic,
    empty:
      "There are no dead letters. Events get here by Policy.deadLetter, with their error and where they came from.",
    columns: [
      linkCell(
        "Topic",
        ({ topic }) => topic,
        ({ topic }) => hrefOf("dead", topic)
      ),
      { head: "Letters", kind: "number", text: ({ letters }) => count(letters) },
      { head: "Partitions", kind: "number", text: ({ partitions }) => count(partitions) }
    ]
  })
  return { title: "Dead letters", element: table.element, update: (now) => table.update(now.deadTopics) }
}

const keyOf = ({ offset, partition }) => `${partition}/${offset}`
const placeOf = ({ offset, partition }) => ({ partition, offset })

const open = async (topic, { offset, partition }) => {
  const letter = await get(path`/dead/${topic}/${partition}/${offset}`)
  const list = facts()
  const { attempts, error, failedAt, headers, key, processor, source, timestamp } = letter
  list.update([
    ["Key", key ?? ""],
    ["Came from", `${source.topic}, partition ${source.partition}, ${source.offset}`],
    ["Given up by", `${processor}, after ${plural(attempts, "attempt")}`],
    ["When", time(failedAt)],
    ["Event of", time(timestamp)],
    ["Headers", Object.keys(headers).length === 0 ? "" : code(JSON.stringify(headers, undefined, 2), "Headers")]
  ])
  await read(
    `Dead letter ${partition}/${offset}`,
    list.element,
    h("h3", {}, "Payload"),
    ...payload(letter.payload),
    h("h3", {}, "Error"),
    h("p", {}, `${error.tag}: ${error.message}`),
    error.stack === "" ? "" : code(error.stack, "Cause")
  )
}

/** Those that are chosen, on this page. */
const chosenOf = (changed) => {
  const chosen = new Map()
  return {
    all: () => Array.from(chosen.values()),
    clear: () => {
      chosen.clear()
      changed()
    },
    set: (letter, isChosen) => {
      if (isChosen) chosen.set(keyOf(letter), letter)
      else chosen.delete(keyOf(letter))
      changed()
    }
  }
}

export const deadLetters = (topic) => {
  let boxes = []
  const chosen = chosenOf(() => {
    const size = chosen.all().length
    some.disabled = size === 0
    setText(some, size === 0 ? "Redrive chosen" : `Redrive ${count(size)} chosen`)
    all.checked = size > 0 && size === boxes.length
    all.indeterminate = size > 0 && size < boxes.length
  })
  const redrive = async (letters, ask) => {
    const isDone = await act({
      ask,
      run: () => post(path`/dead/${topic}/redrive`, letters === undefined ? {} : { letters: letters.map(placeOf) }),
      done: ({ count: n }) => `Put back: ${plural(n, "event")}, each exactly once.`
    })
    if (isDone) await table.first()
  }
  const some = button("Redrive chosen", () => redrive(chosen.all()), { kind: "main" })
  some.disabled = true
  const everything = button("Redrive all", () =>
    redrive(undefined, {
      title: `Redrive all of ${topic}?`,
      text: `${plural(total, "event")} go back to the end of where they came from, each exactly once. What made them fail should be mended first.`,
      verb: "Redrive all"
    })
  )
  const all = h("input", { type: "checkbox", id: "choose-all" })
  all.addEventListener("change", () => {
    // Each choice says anew whether all are chosen.
    const isChosen = all.checked
    for (const { element, item } of boxes) {
      element.checked = isChosen
      chosen.set(item, isChosen)
    }
  })
  const choose = (letter) => {
    const element = h("input", { type: "checkbox", "aria-label": `Choose letter ${keyOf(letter)}` })
    element.addEventListener("change", () => chosen.set(letter, element.checked))
    boxes.push({ element, item: letter })
    return { element }
  }
  const actions = (letter) => ({
    element: h(
      "div",
      { class: "actions" },
      button("Open", () => open(topic, letter), { kind: "quiet", about: `Open letter ${keyOf(letter)}` }),
      button("Redrive", () => redrive([letter]), { about: `Redrive letter ${keyOf(letter)}` })
    )
  })
  const table = pagedTable({
    caption: `Letters of ${topic}`,
    keyOf,
    empty: "All of them were put back, or none has come yet.",
    load: (cursor, signal) =>
      get(path`/dead/${topic}` + (cursor === undefined ? "" : path`?cursor=${cursor}`), { signal }),
    onItems: (items) => {
      const keys = new Set(items.map(keyOf))
      boxes = boxes.filter(({ item }) => keys.has(keyOf(item)))
      for (const { element } of boxes) element.checked = false
      chosen.clear()
      seen = total
      show(news, false)
    },
    tools: [
      h("span", { class: "choose" }, all, h("label", { for: "choose-all" }, "All on this page")),
      some,
      everything
    ],
    columns: [
      { head: "Chosen", kind: "choice", node: choose },
      { head: "Partition", kind: "number", text: ({ partition }) => String(partition) },
      { head: "Key", kind: "name", text: ({ key }) => key ?? "–" },
      { head: "Error", kind: "long", text: ({ error }) => firstLine(`${error.tag}: ${error.message}`) },
      { head: "Payload", kind: "payload", text: (letter) => inLine(letter.payload) },
      { head: "Processor", text: ({ processor }) => processor },
      { head: "Failed", kind: "time", text: ({ failedAt }) => time(failedAt) },
      { head: "Actions", kind: "actions", node: actions }
    ]
  })
  let total = 0
  let seen = 0
  const about = h("p", { class: "about" })
  const news = h("p", { class: "muted", hidden: true }, "There are others by now: refresh to see them.")
  table.read()
  return {
    title: topic,
    kind: "Dead letters",
    element: h("div", { class: "stack" }, about, news, table.element),
    update: (now) => {
      total = now.deadTopics.find((one) => one.topic === topic)?.letters ?? 0
      if (seen === 0) seen = total
      setText(about, `${plural(total, "letter")} that ${total === 1 ? "was" : "were"} not put back`)
      show(news, seen !== total)
      everything.disabled = total === 0
    },
    close: table.close
  }
}
