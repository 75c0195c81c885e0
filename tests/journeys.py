def journeys(root):
    return {}
