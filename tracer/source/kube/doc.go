// Package kube is the source of what a Kubernetes API server says: nodes, pods and services as facts, every address with
// the field that names it, and what is told of a node's fate. It must not know what a connection is, nor write anything to
// the API: it lists and watches.
//
// It never blocks anybody. While the API cannot be reached, or refuses, what was said stands; stream.synced says which facts
// are behind and why, and says so again when they are not. It keeps a fingerprint per object and not the object: who wants
// to know what a pod is called asks the model, which folds the facts.
package kube
