package main

import (
	"bufio"
	"context"
	"io"
)

// attached holds an agent back until a line comes in, and ends it with its input. In a debug pod somebody attaches to it
// then: what is told before that would be lost, and what is told afterwards would be told to nobody.
func attached(ctx context.Context, in io.Reader) (context.Context, error) {
	ctx, cancel := context.WithCancel(ctx)
	begin := make(chan error, 1)
	go func() {
		defer cancel()
		r := bufio.NewReader(in)
		_, err := r.ReadString('\n')
		begin <- err
		if err == nil {
			_, _ = io.Copy(io.Discard, r)
		}
	}()
	select {
	case err := <-begin:
		if err != nil {
			return nil, errStopped // nobody has come
		}
		return ctx, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
