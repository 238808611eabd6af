/** Asking for the token, and finding out whether it is right before it is kept. */
import { post, session } from "./api.js"
import { open } from "./dialog.js"
import { h, newId, setText, show } from "./dom.js"
import { announce } from "./notices.js"
import { button } from "./parts.js"

const wordsFor = ({ message, status }) =>
  status === 401 ? "This is not the token of this worker. Nothing was kept." : message

/** True once there is a token that the server takes. */
export const signIn = async (why) => {
  const result = await open("Sign in", (close) => {
    const [id, errorId] = [newId(), newId()]
    const input = h("input", {
      id,
      type: "password",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
      "aria-describedby": errorId
    })
    const problem = h("p", { class: "banner", id: errorId, role: "alert", hidden: true })
    const submit = h("button", { type: "submit", class: "main" }, "Sign in")
    const form = h(
      "form",
      {
        submit: async (event) => {
          event.preventDefault()
          const token = input.value.trim()
          if (token === "") return
          submit.setAttribute("aria-busy", "true")
          try {
            await post("/access", undefined, { token })
            session.token = token
            close(true)
          } catch (error) {
            setText(problem, wordsFor(error))
            show(problem, true)
            input.setAttribute("aria-invalid", "true")
            input.select()
          }
          submit.removeAttribute("aria-busy")
        }
      },
      h("label", { for: id }, "Token"),
      input,
      problem,
      h(
        "div",
        { class: "choices" },
        button("Cancel", () => close(false)),
        submit
      )
    )
    input.autofocus = true
    return [
      h("p", {}, why ?? "Looking needs no token on this machine; changing something does."),
      h(
        "p",
        { class: "muted" },
        "It is the one given as ",
        h("code", {}, "web: { token }"),
        ", or to ",
        h("code", {}, "millrace worker"),
        " in ",
        h("code", {}, "MILLRACE_WEB_TOKEN"),
        ". This tab forgets it when it is closed."
      ),
      form
    ]
  })
  if (result === true) announce("Signed in.")
  return result === true
}

export const signOut = () => {
  session.token = undefined
  announce("Signed out.")
}
