export { systemClock } from './clock.js'
export type { AnswerEvent, Processor, RequestObserver } from './ports.js'
export { Requests } from './requests.js'
export type { RequestContext, RequestState } from './state.js'
