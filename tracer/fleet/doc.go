// Package fleet is midhop across machines: agents that publish one machine's facts to NATS JetStream, and the hub that
// keeps them there and folds them in the order of the stream. It must not know how facts are folded or judged, nor what
// Kubernetes is: sources, the fold's sockets and the authenticator come in as small interfaces.
//
// What a node translates has to leave it before it dies, so agents push and nobody asks a node when it is too late. Two
// streams keep what they push:
//
//   - [StreamFacts] holds what is folded. Its sequence is the order of the fold, and its lines are the only time that
//     the fold knows, so that two hubs, or one hub twice, come to the same findings under the same ids.
//   - [StreamLedger] holds the translated connections of each node, which are only read back for a node that an
//     incident names: the hub's memory grows with incidents and not with connections.
//   - [StreamIncidents] holds the hub's findings about incidents.
package fleet
