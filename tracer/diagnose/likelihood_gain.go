package diagnose

import "math"

// sheet is the evidence for and against one hypothesis: trials by size, of flows that surely cross the component, and of
// flows that may, with how likely they do.
type sheet struct {
	sure  column
	maybe []share
	sum   counts
	paths int
}

type share struct {
	column
	weight float64
}

// column holds trials by class of size.
type column struct {
	n, bad, size [classes]float64 // size: sum over the trials
	any          float64          // bad ones of all classes
}

func (c *column) add(t trials) {
	if t.n == 0 {
		return
	}
	k := classOf(uint32(t.size))
	c.n[k] += t.n
	c.bad[k] += t.bad
	c.size[k] += t.n * t.size
	c.any += t.bad
}

func (c *column) sub(o *column) (out column) {
	for k := range classes {
		out.n[k], out.bad[k], out.size[k] = max(0, c.n[k]-o.n[k]), max(0, c.bad[k]-o.bad[k]), max(0, c.size[k]-o.size[k])
	}
	out.any = max(0, c.any-o.any)
	return out
}

// hit is the chance that a trial of this size shows a loss at the rate p.
func hit(p, size float64) float64 { return -math.Expm1(size * math.Log1p(-p)) }

// gain is how many nats better the trials are explained by the rate p than by the rate p0.
func (c *column) gain(p, p0 float64) float64 { return c.gainShare(p, p0, 1) }

// gainShare is the same where each trial goes through the component with the given chance only, and else sees p0.
func (c *column) gainShare(p, p0, weight float64) (sum float64) {
	for k := range classes {
		if c.n[k] == 0 {
			continue
		}
		size := c.size[k] / c.n[k]
		q, q0 := hit(p, size), hit(p0, size)
		well := c.n[k] - c.bad[k]
		if weight == 1 {
			if c.bad[k] > 0 {
				sum += c.bad[k] * math.Log(q/q0)
			}
			sum += well * size * (math.Log1p(-p) - math.Log1p(-p0))
			continue
		}
		sum += c.bad[k] * math.Log1p(weight*(q/q0-1))
		sum += well * math.Log1p(weight*math.Expm1(size*(math.Log1p(-p)-math.Log1p(-p0))))
	}
	return sum
}

func (s *sheet) gain(p, p0 float64) float64 {
	g := s.sure.gain(p, p0)
	for i := range s.maybe {
		g += s.maybe[i].gainShare(p, p0, s.maybe[i].weight)
	}
	return g
}

// mostLoss is the rate of something that lets nothing through: not 1, so that a flow that was lucky rules out nothing.
const mostLoss = 0.98

// best returns the rate from lowest on that explains a sheet best, and its gain over p0.
func best(gain func(p float64) float64, lowest float64) (p, g float64) {
	if lowest >= mostLoss {
		return mostLoss, gain(mostLoss)
	}
	// The rate is sought by its odds' logarithm: on a grid first, since shares may give more than one peak.
	const steps = 24
	lo, hi := logit(lowest), logit(mostLoss)
	at, top := 0, math.Inf(-1)
	for i := range steps + 1 {
		if v := gain(expit(lo + (hi-lo)*float64(i)/steps)); v > top {
			at, top = i, v
		}
	}
	a := lo + (hi-lo)*float64(max(at-1, 0))/steps
	b := lo + (hi-lo)*float64(min(at+1, steps))/steps
	const golden = 0.6180339887498949
	for range 20 {
		x, y := b-golden*(b-a), a+golden*(b-a)
		if gain(expit(x)) > gain(expit(y)) {
			b = y
		} else {
			a = x
		}
	}
	p = expit((a + b) / 2)
	return p, gain(p)
}

func logit(p float64) float64 { return math.Log(p / (1 - p)) }
func expit(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// expected is how many of the trials show a loss at the rate p, and the variance of that.
func (c *column) expected(p float64) (mean, variance float64) {
	for k := range classes {
		if c.n[k] > 0 {
			q := hit(p, c.size[k]/c.n[k])
			mean += c.n[k] * q
			variance += c.n[k] * q * (1 - q)
		}
	}
	return mean, variance
}

// rate is the loss at which as many trials are bad as there are: the estimate by moments.
func (c *column) rate(bad float64) float64 {
	var total, size float64
	for k := range classes {
		total += c.n[k]
		size += c.size[k]
	}
	if total == 0 || bad >= total {
		return mostLoss
	}
	lo, hi := 0.0, mostLoss
	if p := bad / size; p < 1e-3 { // trials are small against 1/p: nearly linear, and never below
		lo, hi = p, min(mostLoss, 10*p+1e-9)
	}
	for range 50 {
		mid := (lo + hi) / 2
		if m, _ := c.expected(mid); m < bad {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}
