/** Dialogs of the page's own: they hold the keyboard while they are open, close by Escape, and give the focus back. */
import { h, newId } from "./dom.js"
import { button } from "./parts.js"

/** Opens one; `body(close)` gives its children. The promise has what it was closed with, undefined for Escape. */
export const open = (title, body, { wide = false } = {}) =>
  new Promise((resolve) => {
    const id = newId()
    const dialog = h("dialog", { "aria-labelledby": id, class: wide ? "wide" : undefined })
    let result
    const close = (value) => {
      result = value
      dialog.close()
    }
    // What is only read begins at its beginning.
    dialog.append(h("h2", { id, tabindex: wide ? "-1" : undefined, autofocus: wide }, title), ...body(close))
    // A click beside it, on the backdrop, is one on the dialog itself.
    dialog.addEventListener("click", (event) => event.target === dialog && close(undefined))
    dialog.addEventListener("close", () => {
      dialog.remove()
      resolve(result)
    })
    document.body.append(dialog)
    dialog.showModal()
  })

/** Whether to go on. What destroys something has the focus on "Cancel". */
export const confirm = ({ danger = false, text, title, verb }) =>
  open(title, (close) => {
    const cancel = button("Cancel", () => close(false))
    const go = button(verb, () => close(true), { kind: danger ? "danger" : "main" })
    ;(danger ? cancel : go).autofocus = true
    return [h("p", {}, text), h("div", { class: "choices" }, cancel, go)]
  })

/** Something to read. */
export const read = (title, ...children) =>
  open(
    title,
    (close) => [
      h("div", { class: "body" }, ...children),
      h(
        "div",
        { class: "choices" },
        button("Close", () => close(undefined))
      )
    ],
    { wide: true }
  )
