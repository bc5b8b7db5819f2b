// Package kubeaccess is the way to an API server: which one the user or the pod means, with which credentials, and the debug
// pod that `midhop probe` starts there. It must not know what a connection or an event is.
package kubeaccess
