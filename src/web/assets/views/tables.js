/** Tables; of one of them the rows, and a look-up by key. */
import { get, path } from "../api.js"
import { read } from "../dialog.js"
import { h, setText, show } from "../dom.js"
import { count } from "../format.js"
import { linkCell, liveTable } from "../liveTable.js"
import { pagedTable } from "../pagedTable.js"
import { button, facts, inLine, payload, section } from "../parts.js"
import { hrefOf } from "../router.js"

export const tables = () => {
  const table = liveTable({
    caption: "Tables",
    keyOf: ({ name }) => name,
    empty: "No processor keeps a table. Table.make gives one, written with the events it comes from.",
    columns: [
      linkCell(
        "Table",
        ({ name }) => name,
        ({ name }) => hrefOf("tables", name)
      ),
      linkCell(
        "Kept by",
        ({ processor }) => processor,
        ({ processor }) => hrefOf("processors", processor)
      ),
      { head: "Partitions", kind: "number", text: ({ partitions }) => count(partitions) }
    ]
  })
  return { title: "Tables", element: table.element, update: (now) => table.update(now.tables) }
}

const showRow = (row) => {
  const list = facts()
  list.update([
    ["Key", row.key],
    ["Partition", String(row.partition)]
  ])
  return [list.element, ...payload(row.payload)]
}

const lookUp = (name) => {
  const input = h("input", { id: "row-key", type: "search", spellcheck: "false", autocomplete: "off" })
  const answer = h("div", { role: "status", "aria-live": "polite" })
  const form = h(
    "form",
    {
      class: "bar",
      submit: async (event) => {
        event.preventDefault()
        if (input.value === "") return
        try {
          answer.replaceChildren(...showRow(await get(path`/tables/${name}/${input.value}`)))
        } catch (error) {
          answer.replaceChildren(
            h("p", { class: "empty" }, error.status === 404 ? `No row has the key ${input.value}.` : error.message)
          )
        }
      }
    },
    h("label", { for: "row-key" }, "Key"),
    input,
    h("button", { type: "submit", class: "main" }, "Look up")
  )
  return h("div", {}, form, answer)
}

export const table = (name) => {
  const rows = pagedTable({
    caption: `Rows of ${name}`,
    keyOf: ({ key, partition }) => `${partition}/${key}`,
    empty: "It has no rows yet.",
    load: (cursor, signal) =>
      get(path`/tables/${name}` + (cursor === undefined ? "" : path`?cursor=${cursor}`), { signal }),
    columns: [
      { head: "Key", kind: "name", text: ({ key }) => key },
      { head: "Partition", kind: "number", text: ({ partition }) => String(partition) },
      { head: "Value", kind: "payload", text: (row) => inLine(row.payload) },
      {
        head: "Actions",
        kind: "actions",
        node: ({ key, partition }) => {
          const one = path`/tables/${name}/${key}` + path`?partition=${partition}`
          const open = button("Open", async () => read(`Row ${key}`, ...showRow(await get(one))), {
            kind: "quiet",
            about: `Open row ${key}`
          })
          return { element: h("div", { class: "actions" }, open) }
        }
      }
    ]
  })
  const about = h("p", { class: "about" })
  const gone = h("p", { class: "empty", hidden: true }, `There is no table ${name} on this engine.`)
  rows.read()
  return {
    title: name,
    kind: "Table",
    element: h("div", { class: "stack" }, gone, about, section("Look up", lookUp(name)), section("Rows", rows.element)),
    update: (now) => {
      const found = now.tables.find((one) => one.name === name)
      show(gone, found === undefined)
      if (found !== undefined) setText(about, `Kept by ${found.processor} in ${count(found.partitions)} partitions`)
    },
    close: rows.close
  }
}
