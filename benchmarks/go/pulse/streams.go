package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"goa.design/pulse/streaming"
	"goa.design/pulse/streaming/options"

	"pulsewire/benchmarks/go/contract"
)

const eventName = "bench.event"

// runAdd adds from as many goroutines as there are callers.
func runAdd(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	stream, err := streaming.NewStream(s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	payload := []byte(strings.Repeat("x", s.Payload))
	result, _, err := contract.Load(func() error {
		_, err := stream.Add(ctx, eventName, payload)
		return err
	}, s)
	return result, err
}

// runSink reads what was loaded before and acknowledges each event, from as many goroutines as there are callers. The
// process ends without closing the sink, which waits for its read to return.
func runSink(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	stream, err := streaming.NewStream(s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Measure(func() (int, error) {
		sink, err := stream.NewSink(ctx, s.Group, options.WithSinkStartAtOldest())
		if err != nil {
			return 0, err
		}
		events := sink.Subscribe()
		var taken, acknowledged atomic.Int64
		err = contract.AtOnce(s.Callers, func() error {
			for taken.Add(1) <= int64(s.Events) {
				if err := sink.Ack(ctx, <-events); err != nil {
					return err
				}
				acknowledged.Add(1)
			}
			return nil
		})
		return int(acknowledged.Load()), err
	})
}

// runReader reads what was loaded before.
func runReader(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	stream, err := streaming.NewStream(s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Measure(func() (int, error) {
		reader, err := stream.NewReader(ctx, options.WithReaderStartAtOldest())
		if err != nil {
			return 0, err
		}
		events := reader.Subscribe()
		for count := range s.Events {
			if event := <-events; event.EventName != eventName {
				return count, fmt.Errorf("an event is named %q", event.EventName)
			}
		}
		return s.Events, nil
	})
}

// runPublish adds events some milliseconds apart, each with the time of its Add in its payload.
func runPublish(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	stream, err := streaming.NewStream(s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Spaced(s, func(int) error {
		_, err := stream.Add(ctx, eventName, []byte(contract.Stamp(s.Payload)))
		return err
	})
}

// runSubscribe takes the published events from a sink and notes how old each one is.
func runSubscribe(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	events, sink, err := subscribed(ctx, client, s)
	if err != nil {
		return outcome{}, err
	}
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Aged(func() ([]float64, error) {
		samples := make([]float64, 0, s.Events+contract.LatencySkip)
		for len(samples) < cap(samples) {
			event := <-events
			age, err := contract.AgeMs(string(event.Payload))
			if err != nil {
				return nil, err
			}
			samples = append(samples, age)
			if err := sink.Ack(ctx, event); err != nil {
				return nil, err
			}
		}
		return samples, nil
	})
}

// runIdle has one sink and one reader that wait for events until the second signal.
func runIdle(ctx context.Context, client *redis.Client, s settings) (outcome, error) {
	if _, _, err := subscribed(ctx, client, s); err != nil {
		return outcome{}, err
	}
	stream, err := streaming.NewStream(s.Stream, client)
	if err != nil {
		return outcome{}, err
	}
	reader, err := stream.NewReader(ctx)
	if err != nil {
		return outcome{}, err
	}
	reader.Subscribe()
	if err := contract.WaitForGo(); err != nil {
		return outcome{}, err
	}
	return contract.Measure(func() (int, error) { return 1, contract.WaitForSignal() })
}

func subscribed(ctx context.Context, client *redis.Client, s settings) (<-chan *streaming.Event, *streaming.Sink, error) {
	stream, err := streaming.NewStream(s.Stream, client)
	if err != nil {
		return nil, nil, err
	}
	sink, err := stream.NewSink(ctx, s.Group)
	if err != nil {
		return nil, nil, err
	}
	return sink.Subscribe(), sink, nil
}
