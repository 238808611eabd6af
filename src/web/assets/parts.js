/** Small parts that all views are made of: buttons, sections, tiles, lists of facts, payloads. */
import { h, keyed, newId, setAttribute, setText } from "./dom.js"
import { bytes } from "./format.js"

/** `kind`: `quiet`, `danger`, `main`. It stays disabled while what it began goes on. */
export const button = (label, action, { about, kind, title } = {}) => {
  const element = h("button", { type: "button", class: kind, title, "aria-label": about }, label)
  element.addEventListener("click", async () => {
    if (element.getAttribute("aria-busy") === "true") return
    element.setAttribute("aria-busy", "true")
    try {
      await action()
    } finally {
      element.removeAttribute("aria-busy")
    }
  })
  return element
}

/** A part of a view with a heading of its own. */
export const section = (title, ...children) => {
  const id = newId()
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), ...children)
}

/** A number that matters, with what it is. */
export const tile = (label, href) => {
  const value = h("dd", {})
  const note = h("dd", { class: "note" })
  const name = h("dt", {}, href === undefined ? label : h("a", { href }, label))
  return {
    element: h("div", { class: "tile" }, name, value, note),
    update: (text, { more = "", tone } = {}) => {
      setText(value, text)
      setText(note, more)
      setAttribute(value, "data-tone", tone)
    }
  }
}

export const tiles = (...all) => h("dl", { class: "tiles" }, ...all.map(({ element }) => element))

/** Pairs of a name and a value that may change. */
export const facts = () => {
  const element = h("dl", { class: "facts" })
  const fill = keyed(
    element,
    ([name]) => name,
    ([name]) => {
      const value = h("dd", {})
      return {
        element: h("div", {}, h("dt", {}, name), value),
        update: ([, text]) => {
          if (typeof text === "string") setText(value, text)
          else if (value.firstChild !== text) value.replaceChildren(text)
        }
      }
    }
  )
  return { element, update: (pairs) => fill(pairs.filter(([, text]) => text !== undefined && text !== "")) }
}

export const code = (text, label) =>
  h("pre", { class: "code", tabindex: "0", role: "group", "aria-label": label }, text)

/** What was stored, as text. */
export const payload = ({ base64, bytes: size, format, problem, value }) => [
  h("p", { class: "muted" }, `${format}, ${bytes(size)}`, problem === null ? "" : ` · ${problem}`),
  code(problem === null ? JSON.stringify(value, undefined, 2) : (base64 ?? ""), "Payload")
]

/** In a row of a list: the beginning. */
export const inLine = ({ problem, value }) => {
  const text = problem === null ? JSON.stringify(value) : `(${problem})`
  return text.length > 160 ? `${text.slice(0, 160)}…` : text
}

export const muted = (text) => h("p", { class: "muted" }, text)
