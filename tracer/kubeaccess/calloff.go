package kubeaccess

import "net/http"

// CalledOff makes requests end with their context also while a credential plugin runs, which knows none: it then runs on by itself.
// A nil rt stands for the default one, as everywhere in net/http.
func CalledOff(rt http.RoundTripper) http.RoundTripper {
	if rt == nil {
		rt = http.DefaultTransport
	}
	return callOff{rt}
}

type callOff struct{ rt http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (c callOff) RoundTrip(r *http.Request) (*http.Response, error) {
	type answer struct {
		response *http.Response
		err      error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		a.response, a.err = c.rt.RoundTrip(r)
		done <- a
	}()
	select {
	case a := <-done:
		return a.response, a.err
	case <-r.Context().Done():
		go func() {
			if a := <-done; a.response != nil {
				_ = a.response.Body.Close()
			}
		}()
		return nil, r.Context().Err()
	}
}
