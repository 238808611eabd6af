/** Short words about what was done, for eyes and ears; they go by themselves, bad news more slowly. */
import { h, setText } from "./dom.js"
import { button } from "./parts.js"

const goodMillis = 5_000
const badMillis = 15_000

export const announce = (text, { bad = false } = {}) => {
  const place = document.getElementById("notices")
  const remove = () => element.remove()
  const element = h(
    "div",
    { class: "notice", "data-tone": bad ? "bad" : "good" },
    h("span", {}, text),
    button("Dismiss", remove, { kind: "quiet" })
  )
  place.append(element)
  if (place.children.length > 4) place.firstElementChild.remove()
  setTimeout(remove, bad ? badMillis : goodMillis)
}

/** For ears alone: what eyes see anyway. */
export const say = (text) => setText(document.getElementById("announcer"), text)
