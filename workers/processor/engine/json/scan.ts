/** Finds the end of a JSON object in text that comes in pieces. */
export class JsonScan {
  #depth = 0
  #quoted = false
  #escaped = false

  /** @returns how much of the text belongs to the object, and whether it ends there */
  push(text: string): { length: number; ended: boolean } {
    for (let i = 0; i < text.length; i++) {
      const sign = text[i]
      if (this.#escaped) this.#escaped = false
      else if (this.#quoted) {
        if (sign === '\\') this.#escaped = true
        else if (sign === '"') this.#quoted = false
      } else if (sign === '"') this.#quoted = true
      else if (sign === '{' || sign === '[') this.#depth++
      else if ((sign === '}' || sign === ']') && --this.#depth === 0) return { length: i + 1, ended: true }
    }
    return { length: text.length, ended: false }
  }
}
