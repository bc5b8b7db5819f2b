// Package kubenode reads what a Kubernetes Node object means: its addresses with the field that names each of them, whether
// its provider may take it away, and what is happening to it. It must not know where objects come from, nor any library of
// Kubernetes: the nodes file and the API's source both hand it the same fields.
package kubenode
