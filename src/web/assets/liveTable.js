/**
 * A table whose rows stay where they are while their cells change. A column has `head` and either `text(item)` or
 * `node(item)`, which gives `{ element, update(item) }`. On a narrow screen rows become cards; the roles keep it a table
 * for those who hear it.
 */
import { h, keyed, newId, setAttribute, setText, show } from "./dom.js"

const kindOf = ({ kind }) => (kind === undefined ? undefined : `cell-${kind}`)

const textCell = (column) => {
  const element = h("td", { role: "cell", class: kindOf(column), "data-head": column.head })
  return {
    element,
    update: (item) => {
      setText(element, column.text(item))
      if (column.tone !== undefined) setAttribute(element, "data-tone", column.tone(item))
    }
  }
}

const nodeCell = (column, item) => {
  const made = column.node(item)
  const element = h("td", { role: "cell", class: kindOf(column), "data-head": column.head }, made.element)
  return { element, update: made.update ?? (() => undefined) }
}

const row = (columns, item, tone) => {
  const cells = columns.map((column) => (column.node === undefined ? textCell(column) : nodeCell(column, item)))
  const element = h("tr", { role: "row" }, ...cells.map((cell) => cell.element))
  return {
    element,
    update: (item) => {
      for (const cell of cells) cell.update(item)
      if (tone !== undefined) setAttribute(element, "data-tone", tone(item))
    }
  }
}

/** `empty`: what to say, as a string or an element, if there are no rows. `tone(item)` marks a row. */
export const liveTable = ({ caption, columns, empty, keyOf, tone }) => {
  const head = columns.map((column) =>
    h("th", { role: "columnheader", scope: "col", class: kindOf(column), title: column.hint }, column.head)
  )
  const body = h("tbody", { role: "rowgroup" })
  const id = newId()
  const table = h(
    "table",
    { role: "table", "aria-labelledby": id },
    h("caption", { id }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...head)),
    body
  )
  const nothing = typeof empty === "string" ? h("p", { class: "empty" }, empty) : empty
  const scroll = h("div", { class: "scroll" }, table)
  const fill = keyed(body, keyOf, (item) => row(columns, item, tone))
  return {
    element: h("div", { class: "table" }, scroll, nothing),
    update: (items) => {
      fill(items)
      show(scroll, items.length > 0)
      show(nothing, items.length === 0)
    }
  }
}

/** A cell that leads somewhere. */
export const linkCell = (head, textOf, hrefOf) => ({
  head,
  kind: "name",
  node: () => {
    const element = h("a", {})
    return {
      element,
      update: (item) => {
        setText(element, textOf(item))
        setAttribute(element, "href", hrefOf(item))
      }
    }
  }
})

/** Words with a tone (`good`, `warn`, `bad`, `calm`) that never depend on the colour alone. */
export const badge = (of) => (item) => {
  const element = h("span", { class: "badge" })
  const update = (item) => {
    const [tone, text] = of(item)
    setText(element, text)
    setAttribute(element, "data-tone", tone)
    show(element, text !== "")
  }
  update(item)
  return { element, update }
}
