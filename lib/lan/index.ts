export { isOwnIpv4, lanAddresses } from './addresses.js'
