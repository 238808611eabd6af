/** What is not in every look is asked for by its view alone, at an interval, until the function that it gives is called. */
export const poll = (everyMillis, ask, heard, failed = () => undefined) => {
  const over = new AbortController()
  let timer
  const look = async () => {
    try {
      heard(await ask(over.signal))
    } catch (error) {
      if (!over.signal.aborted) failed(error)
    }
    if (!over.signal.aborted) timer = setTimeout(look, everyMillis)
  }
  look()
  return () => {
    clearTimeout(timer)
    over.abort()
  }
}
