"""Read the shards of a dataset with a torch DataLoader: `python shards_dataloader.py data/PVT-encodec`."""

import argparse

from torch.utils.data import DataLoader

import pvt


def main():
    """Print the shapes of the first batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a PVT-<format> folder")
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    loader = DataLoader(pvt.Dataset(arguments.data, split="train"), batch_size=arguments.batch, shuffle=True)
    batch = next(iter(loader))
    for name, values in batch.items():
        print(f"{name:12} {tuple(values.shape) if hasattr(values, 'shape') else values[0]}")


if __name__ == "__main__":
    main()
