import type { GenerateEvent, TokenLogprob, ToolCall } from '../../lib/protocol/index.js'

/** Puts the events of one generation together to a whole answer. */
export class Collector {
  text = ''
  readonly toolCalls: ToolCall[] = []
  readonly logprobs: TokenLogprob[] = []

  add(event: GenerateEvent): void {
    if (event.type === 'tokens') {
      this.text += event.text
      for (const one of event.logprobs ?? []) this.logprobs.push(one)
    } else if (event.type === 'toolCall') {
      let call = this.toolCalls[event.call]
      if (call === undefined) {
        call = { id: '', name: '', arguments: '' }
        this.toolCalls[event.call] = call
      }
      if (event.id !== undefined) call.id = event.id
      if (event.name !== undefined) call.name = event.name
      call.arguments += event.arguments
    }
  }
}
