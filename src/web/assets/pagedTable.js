/**
 * A long list, page by page as the server gives it: `load(cursor, signal)` gives `{ items, next }`. A page stays as it was
 * read until somebody turns it or reads it again.
 */
import { h, setText, show } from "./dom.js"
import { count } from "./format.js"
import { liveTable } from "./liveTable.js"
import { button } from "./parts.js"

export const pagedTable = ({ load, onItems = () => undefined, tools = [], ...options }) => {
  const table = liveTable(options)
  const problem = h("p", { class: "banner", role: "alert", hidden: true })
  const where = h("span", { class: "where", "aria-live": "polite" })
  /** Cursors of this page and those before it. */
  let pages = [undefined]
  let next = null
  let current

  const read = async () => {
    current?.abort()
    const asked = (current = new AbortController())
    element.setAttribute("aria-busy", "true")
    try {
      let page = await load(pages.at(-1), asked.signal)
      // A page may be empty and not the last.
      while (page.items.length === 0 && page.next !== null) page = await load(page.next, asked.signal)
      if (current !== asked) return
      next = page.next
      table.update(page.items)
      onItems(page.items)
      show(problem, false)
      setText(where, page.items.length === 0 ? "" : `Page ${pages.length}, ${count(page.items.length)} rows`)
    } catch (error) {
      if (current !== asked) return
      setText(problem, error.message)
      show(problem, true)
    }
    element.removeAttribute("aria-busy")
    back.disabled = pages.length === 1
    on.disabled = next === null
    show(pager, next !== null || pages.length > 1)
  }

  const turn = (to) => {
    pages = to
    return read()
  }
  const back = button("Previous", () => turn(pages.slice(0, -1)))
  const on = button("Next", () => turn([...pages, next]))
  const refresh = button("Refresh", read)
  const pager = h("nav", { class: "pager", "aria-label": `Pages: ${options.caption}`, hidden: true }, back, on)
  const element = h(
    "div",
    { class: "paged" },
    problem,
    h("div", { class: "bar" }, ...tools, where, h("span", { class: "grow" }), refresh),
    table.element,
    pager
  )
  return {
    element,
    read,
    first: () => turn([undefined]),
    close: () => {
      current?.abort()
      current = undefined
    }
  }
}
